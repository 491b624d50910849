"""Plan the media of a sample from their headers, so that everything that is wrong with them is found before anything is
encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from ltxcore.columns import Params
from ltxcore.condition_metadata import FACTORS, trained_factors
from ltxcore.conditions import AskedCondition, SampleCondition, given_from_medium
from ltxcore.declarations import content_of
from ltxcore.drawn import spoken
from ltxcore.errors import ConfigError, LtxError
from ltxcore.protocols import DescribesLora, Geometry, Inputs, Modality
from ltxcore.sample.cuts import ClipCut, Cut, blaming
from ltxcore.sample.empty_tokens import Canvas
from ltxcore.sample.media_parts import PicturesCut, latent_frames, other_rate, part_of, pictures_cut, reference_of
from ltxcore.sample.request import Request
from ltxcore.sample.values import tensor_of
from ltxcore.state import LatentState

PlannedCondition = SampleCondition[Cut, Path]
"""A condition with the parts of the media files that it uses; its masks are not read yet."""


@attrs.frozen(eq=False)
class Planned:
    """A sample that was checked by the headers of its media and can be generated.

    Attributes:
        canvas: the sample to generate, in latent cells.
        frozen: the part of a file that each frozen modality uses.
        conditions: the conditions, in order.
        notes: notes for the user.
    """

    canvas: Canvas
    frozen: Mapping[str, Cut]
    conditions: tuple[PlannedCondition, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_compressed_images(self) -> bool:
        """Whether any image that a condition takes is compressed before it is encoded."""
        cuts = [cut for each in self.conditions for cut in (each.medium, *(one for found in each.pictures.values() for one in found.cuts))]
        return any(isinstance(cut, ClipCut) and cut.crf > 0 for cut in cuts)


def plan_generations(
    requests: Sequence[Request],
    modalities: Mapping[str, Modality],
    factors: Mapping[str, str] | None = None,
    params: Params | None = None,
) -> list[Planned]:
    """Check the media of some samples by their headers, and plan the samples.

    Args:
        requests: the samples.
        modalities: the modalities by name, with the scale factors of the model's codecs.
        factors: the metadata of the LoRA that is trained or used, as far as they describe its references; None if they are not known.
        params: the parameters of columns that were used for training, by the name of the column.

    Raises:
        LtxError: something is wrong with some of the samples; the error lists everything that is wrong with them.
    """
    planners = [_Planner(Canvas(request, modalities), factors, params or {}) for request in requests]
    planned = [planner.planned() for planner in planners]
    errors = [error for planner in planners for error in planner.errors]
    if errors:
        raise type(errors[0]).of(problem for error in errors for problem in error.problems)
    return planned


@attrs.define
class _Planner:
    """Plans one sample, and continues after a mistake so that all mistakes are found."""

    canvas: Canvas
    factors: Mapping[str, str] | None
    params: Params
    errors: list[LtxError] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)

    def planned(self) -> Planned:
        request = self.canvas.request
        frozen: dict[str, Cut] = {}
        for freeze in request.freezes:
            # A frozen video must be as long as the sample; frozen audio may end earlier.
            with self.collecting(), blaming(request.place(freeze)):
                frozen[freeze.modality] = part_of(self.canvas, freeze.medium, freeze.modality, whole=freeze.modality == "video")
        conditions = []
        for asked in request.conditions:
            with self.collecting():
                conditions.append(self.condition(asked))
        if not self.errors:
            self.tried_together(conditions)
        used = [*frozen.values(), *(cut for each in conditions for cut in (each.medium, *each.media.values()) if cut is not None)]
        notes = dict.fromkeys([*self.notes, *(note for cut in used if (note := other_rate(cut, request.rate)))])
        return Planned(self.canvas, frozen, tuple(conditions), tuple(notes))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        try:
            yield
        except LtxError as error:
            self.errors.append(error)

    def condition(self, asked: AskedCondition) -> PlannedCondition:
        where, content, canvas = self.canvas.request.place(asked), content_of(asked.cls), self.canvas
        medium, media = None, {}
        with blaming(where):
            if asked.medium is not None:
                medium = part_of(canvas, asked.medium, asked.modality, whole=content == "whole", from_end=content == "end")
                if isinstance(medium, ClipCut) and medium.rate is None:
                    medium = attrs.evolve(medium, crf=canvas.request.image_crf)
        masks = asked.masks
        for role, path in asked.media.items():
            with blaming(where):
                media[role] = reference_of(canvas, asked, path, where)
        with blaming(where):
            asked = attrs.evolve(asked, tensors={role: tensor_of(canvas, asked, role, self.params) for role in asked.tensors})
        pictures: dict[str, PicturesCut] = {}
        for role, files in asked.pictures.items():
            with blaming(where):
                pictures[role] = pictures_cut(canvas, files)
        asked = attrs.evolve(asked, pictures=pictures)
        grid = None if medium is None else canvas.grid(medium, asked.modality)
        length = latent_frames(asked, canvas.target(asked.modality), grid, canvas.exact_rate, where)
        planned = attrs.evolve(asked.of_length(length), where=where).holding(medium, media, masks)
        with self.collecting():
            self.check_factors(planned)
        # How many tokens a mask gives is not known before the mask is read; values are small, and are there.
        return planned if masks else self.tried(planned)

    def tried(self, planned: PlannedCondition) -> PlannedCondition:
        """Apply a condition to empty tokens, and return the condition with its medium shortened to the part that it
        gives. A condition that gives nothing is noted, since its media are not used.
        """
        after = self.applied(planned, self.canvas.empty(planned.modality))
        if (planned.medium is not None or planned.pictures) and bool((after.denoise_mask == 1).all()):
            self.notes.append(f"{planned.where}: a sample of this length is given nothing by {planned.type}, so its file is not used")
        if content_of(planned.cls) != "start" or not isinstance(planned.medium, ClipCut):
            return planned
        given = (after.denoise_mask[0, : after.num_target] < 1).nonzero().flatten()
        latent = int(after.grid.frame[given].max()) + 1 if len(given) else 1
        return attrs.evolve(planned, medium=planned.medium.shortened((latent - 1) * after.grid.scale[0] + 1))

    def tried_together(self, conditions: Sequence[PlannedCondition]) -> None:
        """Apply all conditions of each modality to empty tokens, one after the other."""
        for name in sorted({planned.modality for planned in conditions}):
            state = self.canvas.empty(name)
            for planned in conditions:
                if planned.modality == name and not planned.masks:
                    with self.collecting():
                        state = self.applied(planned, state)

    def applied(self, planned: PlannedCondition, state: LatentState) -> LatentState:
        try:
            return applied_blank(planned, state, self.canvas)
        except LtxError as error:
            raise _in_words_of_samples(error, planned) from error

    def check_factors(self, planned: PlannedCondition) -> None:
        """Check the factors that a sample declares against the factors of its files and of the LoRA's training.

        Source: docs/explanation/arithmetic.md#spatial-factor-of-a-reference, #temporal-factor-of-a-reference
        """
        condition, canvas = planned.condition, self.canvas
        if planned.modality != "video" or not planned.media or not isinstance(condition, DescribesLora):
            return
        grids = {role: canvas.grid(cut, "video") for role, cut in planned.media.items()}
        others = {role: Geometry(grids[role], canvas.rate_of(cut, planned)) for role, cut in planned.media.items()}
        target = canvas.target("video")
        with blaming(planned.where):
            own = condition.metadata([(Geometry(target, canvas.rate("video")), others)])
        is_still = target.frames == 1 or all(grid.frames == 1 for grid in grids.values())
        declared = {key: getattr(planned, key) for key in FACTORS if not (is_still and key == "temporal_scale_factor")}
        trained = [] if self.factors is None else trained_factors(self.factors)
        for source, kinds in (("the file has", trained_factors(own)), ("the LoRA was trained with", trained)):
            fitting = [kind for kind in kinds if all(kind[key] == number for key, number in declared.items())]
            if kinds and not fitting:
                raise _other_factors(declared, source, kinds, planned.where)


def applied_blank(planned: PlannedCondition, state: LatentState, canvas: Canvas) -> LatentState:
    """Apply a condition without masks to a state, with media that have the sizes of its files but no content.

    Raises:
        DataError: the condition does not fit the target.
    """
    name = planned.modality
    medium = None if planned.medium is None else canvas.blank(canvas.grid(planned.medium, name), name)
    media = {role: canvas.blank(canvas.grid(cut, name), name, canvas.rate_of(cut, planned)) for role, cut in planned.media.items()}
    images = {role: canvas.blank_pictures(found.frames) for role, found in planned.pictures.items()}
    return given_from_medium(planned.use, state, medium, Inputs(media, {}, planned.tensors, images), planned.where)


def _other_factors(declared: Mapping[str, int], source: str, kinds: Sequence[Mapping[str, int]], where: str) -> ConfigError:
    """Return the error for factors that a sample declares for a reference, but that none of the possible kinds of references has."""
    remedy = "or name other media."
    for key, number in declared.items():
        known = list(dict.fromkeys(kind[key] for kind in kinds))
        if number not in known:
            said = " or ".join(f"{key} = {each}" for each in known)
            return ConfigError(
                f"is {number}, but {source} {' or '.join(map(str, known))}", where=f"{where}.{key}", remedy=f"Write {said}, {remedy}"
            )
    pairs = list(dict.fromkeys(spoken({key: kind[key] for key in declared}) for kind in kinds))
    return ConfigError(
        f"has {spoken(declared)}, but {source} {' or '.join(pairs)}", where=where, remedy=f"Write one of these pairs, {remedy}"
    )


def _in_words_of_samples(error: LtxError, planned: PlannedCondition) -> LtxError:
    """Return the error. If the condition is as long as its medium, the remedy says that the sample can set the length."""
    if planned.medium is None or not planned.has_open_length:
        return error
    keys = "num_frames or duration" if planned.modality == "video" else "duration"
    remedy = f"The condition is as long as its medium unless {keys} says how much of the medium is given."
    return type(error).of(attrs.evolve(problem, remedy=remedy) for problem in error.problems)
