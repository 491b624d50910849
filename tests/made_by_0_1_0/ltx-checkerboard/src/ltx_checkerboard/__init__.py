"""Every second square of the picture is given, in all frames; the others are generated."""

import attrs

from ltxcore.api import DataError, Inputs, LatentState, hookimpl


@attrs.frozen
class Checkerboard:
    """Give every second square of the picture, in all frames, beginning with the upper left one."""

    modalities = frozenset({"video"})
    content = "whole"

    size: int = attrs.field(default=1, validator=attrs.validators.ge(1), metadata={"help": "side of a square", "unit": "latent cells"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Squares count in rows and columns from 0; those whose sum is even are given.

        Raises:
            DataError: the picture is one square.
        """
        row, column = state.grid.row // self.size, state.grid.column // self.size
        given = (row + column) % 2 == 0
        if given.all():
            raise DataError(
                f"a picture of {state.grid.height} x {state.grid.width} latent cells is a single square of size {self.size}, which leaves nothing to generate",
                remedy="Set size below the longer side of the smallest picture.",
            )
        return state.given(given)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"checkerboard": Checkerboard}
