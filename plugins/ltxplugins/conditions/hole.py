"""The condition "hole" (inpainting without mask files): one or several boxes are generated, and everything around them is given."""

import math
from typing import Any

import attrs

from ltxcore.api import DataError, Grid, Inputs, LatentState, hookimpl
from ltxcore.api.conditions import level_key

STEPS = {"start": 0.6180339887, "top": 0.7548776662, "left": 0.5698402910}
"""The distance of each hole from the one before it, as a share of the room: the inverse of the golden ratio in time and the inverse powers
of the plastic number in the picture, whose multiples are spread most evenly.
"""


def _size(help: str, **metadata: str) -> Any:
    within = [attrs.validators.gt(0.0), attrs.validators.le(1.0)]
    return attrs.field(default=1.0, validator=within, metadata={"help": help, "unit": "share of the target", **metadata})


def _place(help: str, **metadata: str) -> Any:
    within = [attrs.validators.ge(0.0), attrs.validators.le(1.0)]
    return attrs.field(default=0.5, validator=within, metadata={"help": help, "unit": "share of the room", **metadata})


@attrs.frozen
class Hole:
    """Generate a box of the target, or several, and give everything else.

    Sizes are shares of the target. Places are shares of the room that is left beside a box of this size: 0 is the very beginning, and 1 the
    very end. All keys can be drawn, which makes random gaps without mask files.
    """

    modalities = frozenset({"video", "audio"})
    content = "whole"
    redraws = 8

    height: float = _size("height of a hole, on video", modality="video")
    width: float = _size("width of a hole, on video", modality="video")
    length: float = _size("length of a hole in time")
    top: float = _place("how far down a hole begins, on video", modality="video")
    left: float = _place("how far to the right a hole begins, on video", modality="video")
    start: float = _place("how late a hole begins")
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1), metadata={"help": "number of holes, which may overlap"})
    invert: bool = attrs.field(default=False, metadata={"help": "true: the holes are given, and everything around them is generated"})
    level: float = level_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give all latent cells outside the holes, or those inside if `invert` is set.

        Source: docs/explanation/arithmetic.md#holes

        Raises:
            DataError: this would give nothing of the sample, or all of it.
        """
        grid = state.grid
        inside = grid.frame < 0
        for number in range(self.count):
            frames, rows, columns = self._spans(grid, number)
            inside = inside | (_within(grid.frame, frames) & _within(grid.row, rows) & _within(grid.column, columns))
        given = inside if self.invert else ~inside
        if given.all() or not given.any():
            raise DataError(
                f"{'the hole covers' if self.count == 1 else 'the holes cover'} the whole target of {grid} latent {'steps' if state.modality == 'audio' else 'cells'}, "
                f"which leaves nothing {'to generate' if self.invert else 'given'}",
                remedy=f"Set {'length' if state.modality == 'audio' else 'height, width or length'} to less, or leave out the small samples.",
            )
        return state.given(given, self.level)

    def _spans(self, grid: Grid, number: int) -> tuple[range, range, range]:
        """Return the latent frames, rows and columns of a hole; the holes are numbered from 0."""
        return (
            _span(grid.frames, self.length, _moved(self.start, number * STEPS["start"])),
            _span(grid.height, self.height, _moved(self.top, number * STEPS["top"])),
            _span(grid.width, self.width, _moved(self.left, number * STEPS["left"])),
        )


def _span(cells: int, share: float, place: float) -> range:
    size = min(max(math.floor(share * cells + 0.5), 1), cells)
    first = min(math.floor(place * (cells - size + 1)), cells - size)
    return range(first, first + size)


def _moved(place: float, by: float) -> float:
    return (place + by) % 1 if by else place


def _within(cell: Any, span: range) -> Any:
    return (cell >= span.start) & (cell < span.stop)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"hole": Hole}
