"""The condition "spatial_crop" (outpainting): a rectangle of the video is given in all frames, and its surroundings are
generated.
"""

import attrs

from ltxcore.api import ConfigError, DataError, Inputs, LatentState, hookimpl
from ltxcore.api.conditions import level_key


@attrs.frozen
class SpatialCrop:
    """Give a rectangle of the picture, in all frames."""

    modalities = frozenset({"video"})
    content = "whole"

    spatial_region: tuple[int, int, int, int] = attrs.field(
        metadata={"help": "y1, x1, y2, x2: the upper left and the lower right corner of the region that is given", "unit": "pixels"}
    )
    level: float = level_key()

    @spatial_region.validator
    def _not_empty(self, _: object, region: tuple[int, int, int, int]) -> None:
        y1, x1, y2, x2 = region
        if not (0 <= y1 < y2 and 0 <= x1 < x2):
            fault = "starts outside the frame" if min(y1, x1) < 0 else "is empty"
            raise ConfigError(
                f"the region {list(region)} {fault}", remedy="Write [y1, x1, y2, x2] in pixels with 0 <= y1 < y2 and 0 <= x1 < x2."
            )

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Mark the latent cells of the rectangle as given, in all frames.

        Source: docs/explanation/arithmetic.md#spatial-crop

        Raises:
            DataError: the region selects no latent cell of this clip, or all of them.
        """
        y1, x1, y2, x2 = self.spatial_region
        _, rows, columns = state.grid.scale
        grid = state.grid
        inside = (grid.row >= y1 // rows) & (grid.row < y2 // rows) & (grid.column >= x1 // columns) & (grid.column < x2 // columns)
        if not inside.any() or inside.all():
            raise DataError(
                f"the region {list(self.spatial_region)} selects {'all' if inside.any() else 'none'} of {grid.height} x {grid.width} latent cells",
                remedy=f"A cell is {rows} x {columns} pixels; choose a region that covers part of the {grid.height * rows} x {grid.width * columns} picture.",
            )
        return state.given(inside, self.level)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"spatial_crop": SpatialCrop}
