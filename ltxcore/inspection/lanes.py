"""Where tokens lie, from their positions alone: in which moments, and for pictures, in which cells of the frame."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import attrs
import torch

from ltxcore.inspection.counts import Tokens

Box = tuple[float, float, float, float]
"""Top, left, bottom, right, in pixels of the picture."""


@attrs.frozen(eq=False)
class Slot:
    """The tokens of one moment.

    Attributes:
        start, end: seconds.
        tokens: which lie there.
        boxes: where in the picture each lies; empty for sound.
    """

    start: float
    end: float
    tokens: Tokens
    boxes: tuple[Box, ...]


@attrs.frozen(eq=False)
class Lane:
    """Tokens that belong together: the target, or one medium that was appended; moment by moment."""

    slots: tuple[Slot, ...]

    @property
    def seconds(self) -> tuple[float, float]:
        """From its first moment to its last."""
        return min(slot.start for slot in self.slots), max(slot.end for slot in self.slots)

    @property
    def size(self) -> tuple[float, float] | None:
        """Rows and columns of the picture in pixels; None for sound."""
        boxes = [box for slot in self.slots for box in slot.boxes]
        return (max(box[2] for box in boxes), max(box[3] for box in boxes)) if boxes else None


def lane_of(tokens: Tokens) -> Lane:
    """Tokens of one medium."""
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
    """A lane for each medium that was appended: a new one begins where time goes back, or a place comes again."""
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
