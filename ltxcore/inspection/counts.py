"""The number of tokens in each role (generated, given, partly given, appended, in the loss), and the places of tokens.

A token's place is its moment and, for video, its cell within the frame. It follows from the token's position alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.inspection.seen import Seen
from ltxcore.protocols import ModelInput


@attrs.frozen(eq=False)
class Tokens:
    """The tokens of one sample and modality: T tokens of the target, followed by R appended tokens.

    Attributes:
        given: how much of each token is given, `[T + R]`, from 0 (generated) to 1 (given).
        timesteps: the noise level of each token, `[T + R]`.
        counted: whether each token counts in the loss, `[T + R]` bool.
        positions: the start and end of each token, `[P, T + R, 2]`, in seconds; for video also in pixel rows and columns.
        num_target: T, the number of tokens of the target.
        is_generated: whether the modality is generated, not frozen.
        sigma: the noise level of the modality.
    """

    given: Tensor
    timesteps: Tensor
    counted: Tensor
    positions: Tensor
    num_target: int
    is_generated: bool
    sigma: float

    @property
    def target(self) -> Tokens:
        """The tokens of the target."""
        return self.part(slice(0, self.num_target))

    @property
    def appended(self) -> Tokens:
        """The tokens that were appended."""
        return self.part(slice(self.num_target, self.given.shape[0]))

    def part(self, which: slice | Tensor) -> Tokens:
        """Return a part of these tokens."""
        return attrs.evolve(
            self,
            given=self.given[which],
            timesteps=self.timesteps[which],
            counted=self.counted[which],
            positions=self.positions[:, which],
        )


def tokens_of(inputs: ModelInput, index: int) -> Tokens:
    """Return the tokens of sample `index` of a micro-batch. All tokens of a frozen modality are given."""
    tokens = inputs.timesteps.shape[1]
    target = tokens if inputs.clean is None else inputs.clean.shape[1]
    timesteps, sigma = inputs.timesteps[index].float().cpu(), float(inputs.sigma[index])
    counted = torch.zeros(tokens, dtype=torch.bool)
    if inputs.loss_mask is not None:
        counted[:target] = inputs.loss_mask[index].cpu()
    if not inputs.is_generated:
        given = torch.ones(tokens)
    elif inputs.denoise_mask is not None:
        given = 1.0 - inputs.denoise_mask[index].float().cpu()
    else:
        given = 1.0 - (timesteps / sigma if sigma else torch.ones(tokens))
    return Tokens(given, timesteps, counted, inputs.positions[index].float().cpu(), target, inputs.is_generated, sigma)


@attrs.frozen
class Count:
    """The token counts of one sample and modality, with its noise levels, size, conditions and loss.

    Attributes:
        sample: the sample's name.
        modality: "video" or "audio".
        is_generated: whether the modality is generated, not frozen.
        generated, given, partly: the numbers of target tokens that are generated, given, and partly given.
        appended: the number of tokens besides the target.
        in_loss: the number of tokens that count in the loss.
        marked: the number of tokens that are marked as belonging to the first latent frame; None if the model takes no marker.
        sigma: the noise level of the modality.
        timesteps: the lowest and the highest noise level of a token.
        levels: the lowest and the highest noise level of a token that is given entirely, or appended; None if none of them has noise.
        strengths: the weight with which the target and each appended medium attend to each other; empty if there are no weights.
        seconds: the start and end of the target in seconds.
        pixels: the pixel rows and columns of the target; None for audio.
        conditions: the keys of the conditions that were applied, each with its drawn values.
        loss: the loss; None if the model was not run.
        is_absent: whether the sample lacks the modality; the numbers are then those of its placeholder.
    """

    sample: str
    modality: str
    is_generated: bool
    generated: int
    given: int
    partly: int
    appended: int
    in_loss: int
    marked: int | None
    sigma: float
    timesteps: tuple[float, float]
    levels: tuple[float, float] | None
    strengths: tuple[float, ...]
    seconds: tuple[float, float]
    pixels: tuple[int, int] | None
    conditions: Mapping[str, Sequence[Any]]
    loss: float | None
    is_absent: bool = False


def counts(seen: Seen) -> Iterator[Count]:
    """Yield the token counts of each sample and modality in a micro-batch."""
    for index in range(len(seen.micro_batch.names)):
        yield from counts_of(seen, index)


def counts_of(seen: Seen, index: int) -> Iterator[Count]:
    """Yield the token counts of each modality of the sample at this place in a micro-batch, in which a name can come twice."""
    for modality, inputs in seen.inputs.items():
        tokens = tokens_of(inputs, index)
        target = tokens.target
        seconds = target.positions[0]
        yield Count(
            sample=seen.micro_batch.names[index],
            modality=modality,
            is_generated=inputs.is_generated,
            generated=int((target.given <= 0).sum()),
            given=int((target.given >= 1).sum()),
            partly=int(((target.given > 0) & (target.given < 1)).sum()),
            appended=int(tokens.appended.given.numel()),
            in_loss=int(tokens.counted.sum()),
            marked=None if inputs.marked is None else int(inputs.marked[index].sum()),
            sigma=tokens.sigma,
            timesteps=(float(tokens.timesteps.min()), float(tokens.timesteps.max())),
            levels=_levels(inputs, index),
            strengths=() if inputs.strengths is None else tuple(inputs.strengths.tolist()),
            seconds=(float(seconds.min()), float(seconds.max())),
            pixels=tuple(int(axis.max()) for axis in target.positions[1:]) or None,  # type: ignore[arg-type]
            conditions={key: _values(inputs, key, index) for key, applied in inputs.applied.items() if bool(applied[index])},
            loss=float(seen.losses[modality][index]) if modality in seen.losses else None,
            is_absent=inputs.is_absent,
        )


def _levels(inputs: ModelInput, index: int) -> tuple[float, float] | None:
    if inputs.levels is None or inputs.denoise_mask is None or not bool(inputs.levels[index].any()):
        return None
    levels = inputs.levels[index][inputs.denoise_mask[index] == 0]
    return float(levels.min()), float(levels.max())


def _values(inputs: ModelInput, key: str, index: int) -> tuple[Any, ...]:
    return tuple(values[index].value for name, values in inputs.drawn.items() if name.rpartition("/")[0] == key)


Box = tuple[float, float, float, float]
"""The top, left, bottom and right of a token, in pixels of the video."""


@attrs.frozen(eq=False)
class Slot:
    """The tokens of one moment.

    Attributes:
        start, end: the start and end of the moment, in seconds.
        tokens: the tokens of that moment.
        boxes: the place of each token in the frame; empty for audio.
    """

    start: float
    end: float
    tokens: Tokens
    boxes: tuple[Box, ...]


@attrs.frozen(eq=False)
class Lane:
    """Tokens that belong together, moment by moment: the target, or one appended medium."""

    slots: tuple[Slot, ...]

    @property
    def seconds(self) -> tuple[float, float]:
        """The start of the first moment and the end of the last."""
        return min(slot.start for slot in self.slots), max(slot.end for slot in self.slots)

    @property
    def size(self) -> tuple[float, float] | None:
        """The rows and columns of the video in pixels; None for audio."""
        boxes = [box for slot in self.slots for box in slot.boxes]
        return (max(box[2] for box in boxes), max(box[3] for box in boxes)) if boxes else None


def lane_of(tokens: Tokens) -> Lane:
    """Return the lane with the tokens of one medium."""
    spans: dict[tuple[float, float], list[int]] = {}
    for index, (start, end) in enumerate(tokens.positions[0].tolist()):
        spans.setdefault((start, end), []).append(index)
    slots = (_slot(tokens, start, end, torch.tensor(which)) for (start, end), which in spans.items())
    return Lane(tuple(sorted(slots, key=lambda slot: (slot.start, slot.end))))


def _slot(tokens: Tokens, start: float, end: float, which: torch.Tensor) -> Slot:
    inside = tokens.part(which)
    if inside.positions.shape[0] < 3:
        return Slot(start, end, inside, ())
    (tops, bottoms), (lefts, rights) = (inside.positions[axis].T.tolist() for axis in (1, 2))
    return Slot(start, end, inside, tuple(zip(tops, lefts, bottoms, rights, strict=True)))


def appended_lanes(tokens: Tokens) -> list[Lane]:
    """Return a lane for each appended medium. A new lane begins wherever time goes back or a place occurs again."""
    cuts = [*_beginnings(tokens), tokens.given.shape[0]]
    return [lane_of(tokens.part(slice(start, end))) for start, end in pairwise(cuts)]


def _beginnings(tokens: Tokens) -> Iterator[int]:
    places = tokens.positions.permute(1, 0, 2).flatten(1).tolist()
    seen: set[tuple[float, ...]] = set()
    before = float("inf")
    for index, place in enumerate(map(tuple, places)):
        if place[0] < before or place in seen:
            seen.clear()
            yield index
        seen.add(place)
        before = place[0]
