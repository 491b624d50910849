"""The plan of a sample's media, made from their headers; everything that is wrong with them is found before anything is encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from ltxcore.conditions import AskedCondition, SampleCondition, given_from_medium
from ltxcore.declarations import content_of
from ltxcore.errors import ConfigError, LtxError
from ltxcore.protocols import DescribesLora, Geometry, Inputs, Modality
from ltxcore.sample.cuts import ClipCut, Cut, blaming
from ltxcore.sample.empty_tokens import Canvas
from ltxcore.sample.media_parts import latent_frames, other_rate, part_of, reference_of
from ltxcore.sample.request import Request
from ltxcore.state import LatentState

FACTORS = {"downscale_factor": "reference_downscale_factor", "temporal_scale_factor": "reference_temporal_scale_factor"}
"""The keys for a reference's factors in a sample, each with the key for the same factor in a LoRA's metadata."""


PlannedCondition = SampleCondition[Cut, Path]
"""A condition with the parts of its media files that it uses; its masks are still files."""


@attrs.frozen(eq=False)
class Planned:
    """A sample that can be generated, as far as headers tell.

    Attributes:
        canvas: the sample to generate, in latent cells.
        frozen: for each frozen modality, the part of its file that is used.
        conditions: the conditions, in order.
        notes: notes for the user.
    """

    canvas: Canvas
    frozen: Mapping[str, Cut]
    conditions: tuple[PlannedCondition, ...]
    notes: tuple[str, ...] = ()


def plan_generations(
    requests: Sequence[Request], modalities: Mapping[str, Modality], factors: Mapping[str, str] | None = None
) -> list[Planned]:
    """Check the media of some samples from their headers.

    Args:
        requests: the samples.
        modalities: the modalities by name, with the scale factors of the model's codecs.
        factors: the reference factors in the metadata of the LoRA that is trained or used (`FACTORS`); None if they are not known.

    Raises:
        LtxError: for everything that is wrong with any of them.
    """
    planners = [_Planner(Canvas(request, modalities), factors) for request in requests]
    planned = [planner.planned() for planner in planners]
    errors = [error for planner in planners for error in planner.errors]
    if errors:
        raise type(errors[0]).of(problem for error in errors for problem in error.problems)
    return planned


@attrs.define
class _Planner:
    """Plans one sample, and goes on after a mistake so that all mistakes are found."""

    canvas: Canvas
    factors: Mapping[str, str] | None
    errors: list[LtxError] = attrs.field(factory=list)

    def planned(self) -> Planned:
        request = self.canvas.request
        frozen: dict[str, Cut] = {}
        for freeze in request.freezes:
            # Video must be as long as what is generated; audio may end earlier.
            with self.collecting(), blaming(request.place(freeze)):
                frozen[freeze.modality] = part_of(self.canvas, freeze.medium, freeze.modality, whole=freeze.modality == "video")
        conditions = []
        for asked in request.conditions:
            with self.collecting():
                conditions.append(self.condition(asked))
        if not self.errors:
            self.tried_together(conditions)
        used = [*frozen.values(), *(cut for each in conditions for cut in (each.medium, *each.media.values()) if cut is not None)]
        notes = dict.fromkeys(note for cut in used if (note := other_rate(cut, request.rate)))
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
        masks = asked.masks
        for role, path in asked.media.items():
            with blaming(where):
                media[role] = reference_of(canvas, asked, path, where)
        grid = None if medium is None else canvas.grid(medium, asked.modality)
        length = latent_frames(asked, canvas.target(asked.modality), grid, canvas.exact_rate, where)
        planned = attrs.evolve(asked.of_length(length), where=where).holding(medium, media, masks)
        with self.collecting():
            self.check_factors(planned)
        # How much a mask gives is not known before it is read.
        return planned if masks else self.tried(planned)

    def tried(self, planned: PlannedCondition) -> PlannedCondition:
        """Apply a condition to empty tokens, and return it with its medium shortened to what it gives."""
        after = self.applied(planned, self.canvas.empty(planned.modality))
        if content_of(planned.cls) != "start" or not isinstance(planned.medium, ClipCut):
            return planned
        given = (after.denoise_mask[0, : after.num_target] < 1).nonzero().flatten()
        latent = int(after.grid.frame[given].max()) + 1 if len(given) else 1
        return attrs.evolve(planned, medium=planned.medium.shortened((latent - 1) * after.grid.scale[0] + 1))

    def tried_together(self, conditions: Sequence[PlannedCondition]) -> None:
        """Apply all conditions of each modality, one after the other."""
        for name in sorted({planned.modality for planned in conditions}):
            state = self.canvas.empty(name)
            for planned in conditions:
                if planned.modality == name and not planned.masks:
                    with self.collecting():
                        state = self.applied(planned, state)

    def applied(self, planned: PlannedCondition, state: LatentState) -> LatentState:
        canvas, name = self.canvas, planned.modality
        medium = None if planned.medium is None else canvas.blank(canvas.grid(planned.medium, name), name)
        media = {role: canvas.blank(canvas.grid(cut, name), name, canvas.rate_of(cut, planned)) for role, cut in planned.media.items()}
        try:
            return given_from_medium(planned.use, state, medium, Inputs(media), planned.where)
        except LtxError as error:
            raise _in_words_of_samples(error, planned) from error

    def check_factors(self, planned: PlannedCondition) -> None:
        """Check the factors that a sample declares against those of its files and those that the LoRA was trained with.

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
        for source, found in (("its file has", own), ("the LoRA was trained with", self.factors)):
            for key, name in FACTORS.items():
                declared, real = getattr(planned, key), None if found is None else int(found.get(name, "1"))
                if real not in (None, declared) and not (is_still and key == "temporal_scale_factor"):
                    what, remedy = f"is {declared}, but {source} {real}", f"Write {key} = {real}, or name other media."
                    raise ConfigError(what, where=f"{planned.where}.{key}", remedy=remedy)


def _in_words_of_samples(error: LtxError, planned: PlannedCondition) -> LtxError:
    """Return the error with advice for a condition that is as long as its medium: the sample can set the length."""
    if planned.medium is None or not planned.has_open_length:
        return error
    keys = "num_frames or duration" if planned.modality == "video" else "duration"
    remedy = f"It is as long as its medium unless {keys} says how much of that is given."
    return type(error).of(attrs.evolve(problem, remedy=remedy) for problem in error.problems)
