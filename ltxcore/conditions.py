"""The core's use of conditions: in training with a probability, in generation with their own media."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import attrs

from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.protocols import Inputs, Medium
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
        type: its registered name.
        condition: an object of the registered class.
        probability: the share of samples that it applies to, or the share of micro-batches if it appends.
        sources: the folder of each of its roles, by role.
    """

    type: str
    condition: Any
    probability: float = 1.0
    sources: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def appends(self) -> bool:
        return appends(self.condition)

    @property
    def roles(self) -> tuple[Any, ...]:
        return getattr(self.condition, "roles", ())

    @property
    def modalities(self) -> frozenset[str]:
        return frozenset(self.condition.modalities)


@attrs.frozen(kw_only=True)
class SampleCondition(Generic[Content, Mask]):
    """A condition of a generation: the same class as in training, with its own media in place of folders of samples.

    Its media are files at first, then the parts of the files that it uses, and finally latents `[1, C, ...]`; its masks
    are files, then tensors `[1, T]`.

    Attributes:
        type: its registered name.
        modality: the modality that it works on.
        cls: the registered class.
        fields: the keys of that class that are set, with their values.
        condition: an object of that class; None while its length is not known.
        medium: its own content; None if it has none.
        media: the data of its roles of kind "latents", by role.
        masks: the data of its roles of kind "mask", by role.
        num_frames: the pixel frames that it gives, for a class that counts latent frames.
        duration: the seconds that it gives, for a class that counts latent frames.
        include_in_output: whether the reference is shown beside the result.
        downscale_factor: the factor by which the reference is smaller than the target.
        temporal_scale_factor: the factor by which the reference has fewer frames.
        index: its place in the list of conditions, for messages.
        where: the path of its key, for messages; "" while it is not known.
    """

    type: str
    modality: str
    cls: Any
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    condition: Any = None
    medium: Content | None = None
    media: Mapping[str, Content] = attrs.field(factory=dict)
    masks: Mapping[str, Mask] = attrs.field(factory=dict)
    num_frames: int | None = None
    duration: float | None = None
    include_in_output: bool = False
    downscale_factor: int = 1
    temporal_scale_factor: int = 1
    index: int = attrs.field(default=0, eq=False)
    where: str = attrs.field(default="", eq=False)

    @property
    def use(self) -> ConditionUse:
        """The condition as training uses it."""
        return ConditionUse(self.type, self.condition)

    @property
    def has_open_length(self) -> bool:
        """Whether the class counts latent frames and nothing gives their number; the condition is then as long as its medium."""
        length = length_field(self.cls)
        return length is not None and length not in self.fields and self.num_frames is None and self.duration is None

    def of_length(self, latent_frames: int | None = None) -> Self:
        """Return this sample condition with its `condition` made.

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
        """Return this sample condition with its media and masks in another form."""
        same: Any = self
        return cast("SampleCondition[NewContent, NewMask]", attrs.evolve(same, medium=medium, media=media, masks=masks))


AskedCondition = SampleCondition[Path, Path]
"""A condition, with files, as a run file or the command line gives it."""


def length_field(cls: Any) -> str | None:
    """Return the field of a condition class that counts latent frames, if there is exactly one such field."""
    fields = [field.alias or field.name for field in attrs.fields(cls) if field.init and field.metadata.get("unit") == "latent frames"]
    return fields[0] if len(fields) == 1 else None


def applied_state(use: ConditionUse, state: LatentState, inputs: Inputs, where: str) -> LatentState:
    """Apply a condition, and check that it only gave target tokens and appended others.

    Raises:
        LtxError: the condition refuses to apply; `where` is filled in.
        PluginError: the condition breaks its protocol.
        Exception: any other exception is a mistake in the condition and keeps its traceback; a note says which condition it was,
            and where.
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
    if after.appended is not before.appended and not after.appended[:, : before.num_appended].equal(before.appended):
        return "changes tokens that another condition appended"
    old, new = before.denoise_mask[:, :target], after.denoise_mask[:, :target]
    if bool((new > old).any()):
        return "takes back tokens that another condition gave"
    if not bool((new >= 0).all()):  # written so that NaN fails too
        return "sets the denoise mask below 0"
    if bool(after.denoise_mask[:, target:].any()):
        return "appends tokens that are not given"
    return ""


def where_applied(before: LatentState, after: LatentState, applied: Tensor) -> LatentState:
    """Return `after` for the samples of `applied`, `[B]` bool, and `before` for the others; both have the same appended tokens.

    Source: docs/explanation/arithmetic.md#probability-of-a-condition
    """
    if bool(applied.all()):
        return after
    mask = after.denoise_mask.where(applied.unsqueeze(1), before.denoise_mask)
    return attrs.evolve(before, denoise_mask=mask)


def given_from_medium(use: ConditionUse, state: LatentState, medium: Medium | None, inputs: Inputs, where: str) -> LatentState:
    """Apply a condition in generation, where the condition's medium is known but the target is not.

    The medium is placed on the target where `content` says, and the condition is applied as in training, as if that
    medium were the target. The tokens that it gives take the medium's content.

    Raises:
        DataError: the medium is missing, does not fit the target or does not cover what the condition gives; or two conditions give
            one token different content.
        PluginError: the condition gives tokens, but has no `content`.

    Source: docs/explanation/arithmetic.md#known-content
    """
    content = getattr(use.condition, "content", None)
    target = slice(0, state.num_target)
    placed, covered = _placed(state, medium, content, where) if content and medium else (state.clean, None)
    # The mask starts anew, so that what this condition gives shows even if another one has given the same.
    after = applied_state(use, attrs.evolve(state, clean=placed, denoise_mask=_nothing_given(state)), inputs, where)
    gives = after.denoise_mask[:, target] < 1
    if covered is None and bool(gives.any()):
        raise _unknown(use, state, content, where)
    if covered is not None and medium is not None and bool((gives & ~covered).any()):
        raise DataError(
            f"its medium has length {medium.grid.frames} (in latent frames), which does not cover everything that the condition gives",
            where=where,
            remedy="Use a longer medium, or give less.",
        )
    twice = gives & (state.denoise_mask[:, target] < 1)
    if bool((twice.unsqueeze(-1) & (placed != state.clean)).any()):
        raise DataError(
            "two conditions give the same tokens different content", where=where, remedy="Give each part of the target only once."
        )
    mask = after.denoise_mask.clone()
    mask[:, target] *= state.denoise_mask[:, target]
    return attrs.evolve(after, clean=placed.where(gives.unsqueeze(-1), state.clean), denoise_mask=mask)


def _nothing_given(state: LatentState) -> Tensor:
    mask = state.denoise_mask.clone()
    mask[:, : state.num_target] = 1.0
    return mask


def _unknown(use: ConditionUse, state: LatentState, content: str | None, where: str) -> LtxError:
    """Return the error for given tokens of unknown content, which would otherwise be given as zeros."""
    if content is None:
        return PluginError(
            f'the condition "{use.type}" gives tokens of the target, but its class does not set `content`',
            where=where,
            remedy='Say where its medium lies on the target when sampling: content = "start", "end" or "whole".',
        )
    return DataError(
        f'the condition "{use.type}" gives tokens of the {state.modality}, but there is no medium to take them from',
        where=where,
        remedy=f"Name the {state.modality} file to take them from.",
    )


def _placed(state: LatentState, medium: Medium, content: str, where: str) -> tuple[Tensor, Tensor]:
    """Place the medium on the target's grid, `[B, T, D]`, and return it with a mask of the tokens that it covers, `[T]` bool."""
    import torch

    grid, own = state.grid, medium.grid
    if (own.height, own.width) != (grid.height, grid.width):
        raise DataError(
            f"its medium has cells {own.height} x {own.width}, but the target has {grid.height} x {grid.width}",
            where=where,
            remedy="Resize the medium to the target.",
        )
    if content == "whole" and own.frames < grid.frames:
        raise DataError(
            f"its medium has length {own.frames} (in latent frames), but the target has length {grid.frames}",
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
