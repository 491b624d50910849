"""Apply conditions: in training with a probability, in generation with media of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import attrs

from ltxcore.condition_keys import IF_SET
from ltxcore.drawn import Drawn, spoken
from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.pictures import Pictures, StoredPictures
from ltxcore.protocols import Inputs, Medium, Modality
from ltxcore.state import LatentState

if TYPE_CHECKING:
    from torch import Tensor

Content = TypeVar("Content")
Mask = TypeVar("Mask")
NewContent = TypeVar("NewContent")
NewMask = TypeVar("NewMask")


def appends(condition: Any) -> bool:
    """Return whether a condition, or a class of conditions, appends tokens."""
    return bool(getattr(condition, "appends", False))


@attrs.frozen
class ConditionUse:
    """A condition as a run file uses it.

    Attributes:
        type: the registered name of the condition.
        condition: an object of the registered class.
        probability: the share of samples to which the condition applies, or of micro-batches if it appends tokens.
        sources: the folders of the condition's roles, by role.
        drawn: the ranges or lists that the values of drawn keys are drawn from, by key; in `condition`, each of these keys has the first of
            its possible values.
    """

    type: str
    condition: Any
    probability: float = 1.0
    sources: Mapping[str, str] = attrs.field(factory=dict)
    drawn: Mapping[str, Drawn] = attrs.field(factory=dict)

    def having(self, values: Mapping[str, Any]) -> ConditionUse:
        """Return this use with values for its drawn keys.

        Raises:
            DataError: the class of the condition refuses the values.
        """
        if not values:
            return self
        try:
            return attrs.evolve(self, condition=attrs.evolve(self.condition, **values), drawn={})
        except LtxError:
            raise
        except Exception as error:
            raise DataError(
                f'the condition "{self.type}" refuses {spoken(values)}: {error.args[0] if error.args else type(error).__name__}',
                remedy="Draw only from values that the condition accepts, and list them in one_of.",
            ) from error

    @property
    def appends(self) -> bool:
        return appends(self.condition)

    @property
    def roles(self) -> tuple[Any, ...]:
        return getattr(self.condition, "roles", ())

    @property
    def redraws(self) -> int:
        """The number of times that refused values of drawn keys are drawn anew."""
        return getattr(self.condition, "redraws", 0)

    @property
    def modalities(self) -> frozenset[str]:
        """The modalities that the condition works on with the keys that are set."""
        of_one = (field for field in attrs.fields(type(self.condition)) if "modality" in field.metadata)
        set_ = [field.metadata["modality"] for field in of_one if (field.alias or field.name) not in self.unset]
        return frozenset(self.condition.modalities).intersection(*({modality} for modality in set_))

    @property
    def unset(self) -> frozenset[str]:
        """The keys that have their default values, among those that are written only if they are set: keys that are for one modality alone,
        since all of them have their defaults on the other modality, and keys that are marked as such, like those of
        `ltxcore.api.conditions`.
        """
        return frozenset(
            field.alias or field.name
            for field in attrs.fields(type(self.condition))
            if field.metadata.keys() & {"modality", IF_SET}
            and (field.alias or field.name) not in self.drawn
            and getattr(self.condition, field.name) == field.default
        )


@attrs.frozen
class PictureFiles:
    """The files of pictures, and where in the generated clip they lie: the frames or the times that they show.

    Attributes:
        paths: the files.
        frames: a frame for each file, counted from 0, or backward from -1, the last frame; None if times are given.
        times: a time for each file, in seconds; None if frames are given.
    """

    paths: tuple[Path, ...]
    frames: tuple[int, ...] | None = None
    times: tuple[float, ...] | None = None


@attrs.frozen(kw_only=True)
class SampleCondition(Generic[Content, Mask]):
    """A condition of a generation. Its class is the same as in training, but it has media of its own instead of folders
    of samples.

    The media are first files, then the used parts of the files, and finally latents `[1, C, ...]`. The masks are first
    files, then tensors `[1, T]`.

    Attributes:
        type: the registered name of the condition.
        modality: the modality to which the condition applies.
        cls: the registered class.
        fields: the keys of the class that the sample sets, with their values.
        condition: an object of the class; None until its length is known.
        medium: the condition's own content; None if it has none.
        media: the data of the roles of kind "latents", by role.
        masks: the data of the roles of kind "mask", by role.
        tensors: the data of the roles of kind "values", by role; first files, then tensors `[1, *shape]`.
        pictures: the data of the roles of kind "pictures", by role; first files (`PictureFiles`), then the used parts of the files with
            their frames, and finally `StoredPictures`.
        encoders: for roles of kind "values", the name of the column and the object that encodes the files, by role.
        num_frames: the number of pixel frames to give, for a class that counts latent frames.
        duration: the number of seconds to give, for a class that counts latent frames.
        include_in_output: whether the reference is shown beside the result.
        downscale_factor: the factor by which the reference's width and height are smaller than the target's.
        temporal_scale_factor: the factor by which the reference has fewer frames than the target.
        index: the place of the condition in the sample's list, for messages.
        where: the path of the condition's key, for messages; "" until it is known.
    """

    type: str
    modality: str
    cls: Any
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    condition: Any = None
    medium: Content | None = None
    media: Mapping[str, Content] = attrs.field(factory=dict)
    masks: Mapping[str, Mask] = attrs.field(factory=dict)
    tensors: Mapping[str, Any] = attrs.field(factory=dict)
    encoders: Mapping[str, tuple[str, Any]] = attrs.field(factory=dict)
    pictures: Mapping[str, Any] = attrs.field(factory=dict)
    num_frames: int | None = None
    duration: float | None = None
    include_in_output: bool = False
    downscale_factor: int = 1
    temporal_scale_factor: int = 1
    index: int = attrs.field(default=0, eq=False)
    where: str = attrs.field(default="", eq=False)

    @property
    def use(self) -> ConditionUse:
        """The condition in the form that training uses."""
        return ConditionUse(self.type, self.condition)

    @property
    def has_open_length(self) -> bool:
        """Whether the class counts latent frames and nothing sets their number. The condition is then as long as its
        medium.
        """
        length = length_field(self.cls)
        return length is not None and length not in self.fields and self.num_frames is None and self.duration is None

    def of_length(self, latent_frames: int | None = None) -> Self:
        """Return this sample condition with its `condition` object created.

        Args:
            latent_frames: the length in latent frames, if it follows from `num_frames`, `duration` or the medium.
        """
        fields = dict(self.fields)
        length = length_field(self.cls)
        if length is not None and length not in fields and latent_frames is not None:
            fields[length] = latent_frames
        return attrs.evolve(self, condition=self.cls(**fields))

    def holding(
        self, medium: NewContent | None, media: Mapping[str, NewContent], masks: Mapping[str, NewMask]
    ) -> SampleCondition[NewContent, NewMask]:
        """Return this sample condition with its media and masks in a different form."""
        same: Any = self
        return cast("SampleCondition[NewContent, NewMask]", attrs.evolve(same, medium=medium, media=media, masks=masks))


def pictures_of(stored: StoredPictures, modality: Modality) -> Pictures:
    """Turn stored pictures into the pictures that conditions take."""
    one = stored.latents.flatten(0, 1).float()
    tokens, grid = modality.patchify(one), modality.grid(one)
    return Pictures(tokens.unflatten(0, stored.latents.shape[:2]), grid, stored.frames)


AskedCondition = SampleCondition[Path, Path]
"""A condition whose media and masks are files, as in a run file or on the command line."""


def length_field(cls: Any) -> str | None:
    """Return the field of a condition class that counts latent frames; None unless there is exactly one such field."""
    fields = [field.alias or field.name for field in attrs.fields(cls) if field.init and field.metadata.get("unit") == "latent frames"]
    return fields[0] if len(fields) == 1 else None


def applied_state(use: ConditionUse, state: LatentState, inputs: Inputs, where: str) -> LatentState:
    """Apply a condition, and check that it did nothing but give target tokens and append tokens.

    Raises:
        LtxError: the condition refuses to apply; `where` is filled in.
        PluginError: the condition breaks its protocol.
        Exception: any other exception is a mistake in the condition. It keeps its traceback, with a note that names the
            condition and its place.
    """
    try:
        after = use.condition.apply(state, inputs)
    except LtxError as error:
        raise error.at(where) from error
    except Exception as error:
        error.add_note(f'This is a mistake in the condition "{use.type}", which was applied at {where}.')
        raise
    fault = _fault(use, state, after)
    if fault:
        raise PluginError(
            f'the condition "{use.type}" {fault}', where=where, remedy="Use only state.given() and state.append() in apply()."
        )
    return after


def _fault(use: ConditionUse, before: LatentState, after: Any) -> str:
    if not isinstance(after, LatentState):
        return f"returns {type(after).__name__} from apply(), not a LatentState"
    if after.clean is not before.clean:
        return "changes the clean tokens of the target"
    if after.grid != before.grid or after.rate is not before.rate or after.modality != before.modality:
        return "changes the grid, rate or modality of the target"
    if after.num_appended < before.num_appended:
        return "removes appended tokens"
    if after.num_appended > before.num_appended and not use.appends:
        return "appends tokens, but its class does not say `appends = True`"
    return _fault_in_numbers(before, after)


def _fault_in_numbers(before: LatentState, after: LatentState) -> str:
    kept, target = before.num_target + before.num_appended, before.num_target
    if after.positions is not before.positions and not after.positions[:, :, :kept].equal(before.positions):
        return "moves tokens that were there before it"
    if after.groups[: len(before.groups)] != before.groups:
        return "regroups tokens that another condition appended"
    if after.appended is not before.appended and not after.appended[:, : before.num_appended].equal(before.appended):
        return "changes tokens that another condition appended"
    old, new = before.denoise_mask[:, :target], after.denoise_mask[:, :target]
    if bool((new > old).any()):
        return "takes back tokens that another condition gave"
    if not bool((new >= 0).all()):  # written so that NaN also fails
        return "sets the denoise mask below 0"
    if bool(after.denoise_mask[:, target:].any()):
        return "appends tokens that are not given"
    if bool((after.levels[:, :kept] < before.levels).any()):
        return "lowers the level of tokens that another condition gave"
    if not bool(((after.levels >= 0) & (after.levels < 1) & ((after.levels == 0) | (after.denoise_mask == 0))).all()):
        return "sets levels outside [0, 1), or of tokens that are not given entirely"
    return ""


def where_applied(before: LatentState, after: LatentState, applied: Tensor) -> LatentState:
    """Return the state `after` for the samples in `applied`, `[B]` bool, and `before` for the others. Both states must
    have the same appended tokens.

    Source: docs/explanation/arithmetic.md#probability-of-a-condition
    """
    if bool(applied.all()):
        return after
    mask = after.denoise_mask.where(applied.unsqueeze(1), before.denoise_mask)
    return attrs.evolve(before, denoise_mask=mask, levels=after.levels.where(applied.unsqueeze(1), before.levels))


def given_from_medium(use: ConditionUse, state: LatentState, medium: Medium | None, inputs: Inputs, where: str) -> LatentState:
    """Apply a condition in generation, where its medium is known but the target is not.

    The medium is placed on the target where `content` says. The condition is then applied as in training, with this
    medium as the target, and the tokens that it gives take the medium's content.

    Raises:
        DataError: the medium is missing, does not fit the target or does not cover the given tokens; or two conditions
            give one token different content.
        PluginError: the condition gives tokens, but has no `content`.

    Source: docs/explanation/arithmetic.md#known-content
    """
    content = getattr(use.condition, "content", None)
    target = slice(0, state.num_target)
    placed, covered = _placed(state, medium, content, where) if content and medium else (state.clean, None)
    # The mask is reset first, so that it shows every token that this condition gives, even if another condition has already given it.
    after = applied_state(use, _nothing_given(attrs.evolve(state, clean=placed)), inputs, where)
    gives = after.denoise_mask[:, target] < 1
    if covered is None and bool(gives.any()):
        raise _unknown(use, state, content, where)
    if covered is not None and medium is not None and bool((gives & ~covered).any()):
        raise DataError(
            f"the medium covers only {medium.grid.frames} of the {state.grid.frames} latent frames of the target, but the condition gives others too",
            where=where,
            remedy="Use a longer medium, or give less.",
        )
    twice = gives & (state.denoise_mask[:, target] < 1)
    if bool((twice.unsqueeze(-1) & (placed != state.clean)).any()):
        raise DataError(
            "two conditions give the same tokens different content", where=where, remedy="Give each part of the target only once."
        )
    mask, levels = after.denoise_mask.clone(), after.levels.clone()
    mask[:, target] *= state.denoise_mask[:, target]
    levels[:, target] = levels[:, target].maximum(state.levels[:, target])
    return attrs.evolve(after, clean=placed.where(gives.unsqueeze(-1), state.clean), denoise_mask=mask, levels=levels)


def _nothing_given(state: LatentState) -> LatentState:
    mask, levels = state.denoise_mask.clone(), state.levels.clone()
    mask[:, : state.num_target], levels[:, : state.num_target] = 1.0, 0.0
    return attrs.evolve(state, denoise_mask=mask, levels=levels)


def _unknown(use: ConditionUse, state: LatentState, content: str | None, where: str) -> LtxError:
    """Return the error for given tokens whose content is unknown; without the error, they would be given as zeros."""
    if content is None:
        return PluginError(
            f'the condition "{use.type}" gives tokens of the target, but its class does not set `content`',
            where=where,
            remedy='Set content = "start", "end" or "whole": the part of the target that the medium covers when sampling.',
        )
    return DataError(
        f'the condition "{use.type}" gives tokens of the {state.modality}, but there is no medium to take them from',
        where=where,
        remedy=f"Name the {state.modality} file to take them from.",
    )


def _placed(state: LatentState, medium: Medium, content: str, where: str) -> tuple[Tensor, Tensor]:
    """Place a medium on the target's grid. Return the tokens of the grid with the medium in its place, `[B, T, D]`, and a mask of the
    tokens that the medium covers, `[T]` bool.
    """
    import torch

    grid, own = state.grid, medium.grid
    if (own.height, own.width) != (grid.height, grid.width):
        raise DataError(
            f"the medium has {own.height} x {own.width} latent cells, but the target has {grid.height} x {grid.width}",
            where=where,
            remedy="Resize the medium to the size of the target.",
        )
    if content == "whole" and own.frames < grid.frames:
        raise DataError(
            f"the medium covers only {own.frames} of the {grid.frames} latent frames of the target",
            where=where,
            remedy="Use a medium as long as the target.",
        )
    row = grid.height * grid.width
    length = min(own.frames, grid.frames) * row
    placed = torch.zeros_like(state.clean)
    covered = torch.zeros(state.num_target, dtype=torch.bool)
    if content == "end":
        placed[:, -length:] = medium.tokens[:, -length:].to(placed)
        covered[-length:] = True
    else:
        placed[:, :length] = medium.tokens[:, :length].to(placed)
        covered[:length] = True
    return placed, covered
