"""Tiles with feathered overlap, for a codec that has to work through a clip piece by piece because the whole clip does not fit in memory.

Sizes are counted in latent cells of a `(frames, height, width)` grid. A cell covers `scale` pixel frames, rows and columns, except that the
first latent frame covers one pixel frame. The codec treats the first latent frame of a piece differently, so a piece that does not start at
frame 0 begins with one extra latent frame, whose result is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import attrs
import torch
from torch import Tensor

from ltxcore.errors import ConfigError

Span = tuple[int, int]


@attrs.frozen(str=False)
class Tiling:
    """The size of a piece and the overlap of neighbors, in pixels and pixel frames; None means that nothing is cut along that axis.

    Attributes:
        side: the side of a square piece.
        side_overlap: the number of rows or columns that two neighbors share.
        frames: the number of frames of a piece, without the first frame.
        frames_overlap: the number of frames that two neighbors share.
    """

    side: int | None = 512
    side_overlap: int = 128
    frames: int | None = None
    frames_overlap: int = 16

    def __str__(self) -> str:
        space = "" if self.side is None else f"{self.side}/{self.side_overlap}"
        return space + ("" if self.frames is None else f",{self.frames}/{self.frames_overlap}")

    def cells(self, scale: tuple[int, int, int]) -> tuple[Span | None, Span | None, Span | None]:
        """Return the size and overlap of a piece along each axis in latent cells.

        Raises:
            ConfigError: a size or overlap is not a multiple of a cell, or an overlap is not less than the size.
        """
        time = _cells("frames", self.frames, self.frames_overlap, scale[0])
        return time, _cells("pixels", self.side, self.side_overlap, scale[1]), _cells("pixels", self.side, self.side_overlap, scale[2])


def _cells(unit: str, size: int | None, overlap: int, scale: int) -> Span | None:
    if size is None:
        return None
    if size % scale or overlap % scale or not 0 <= overlap < size:
        raise ConfigError(
            f"tiles of {size} {unit} with an overlap of {overlap} cannot be used",
            remedy=f"The size and the overlap must be multiples of {scale} {unit}, and the overlap must be smaller than the size.",
        )
    return size // scale, overlap // scale


def spans(length: int, tile: Span | None) -> list[Span]:
    """Return the starts and ends of the pieces along an axis of `length` cells. Each piece is `size` long, and the last one is moved back
    to end with the axis.
    """
    if tile is None or length <= tile[0]:
        return [(0, length)]
    size, overlap = tile
    starts = [*range(0, length - size, size - overlap), length - size]
    return [(start, start + size) for start in starts]


def encode_tiled(encode: Callable[[Tensor], Tensor], pixels: Tensor, scale: tuple[int, int, int], tiling: Tiling) -> Tensor:
    """Encode pixels `[3, F, H, W]` to latents `[C, F', H', W']` float32 on the CPU, piece by piece.

    Args:
        encode: a function from the pixels `[1, 3, f, h, w]` of a piece to latents `[1, C, f', h', w']`.
    """
    frames, height, width = pixels.shape[1:]
    grid = ((frames - 1) // scale[0] + 1, height // scale[1], width // scale[2])

    def piece(time: Span, rows: Span, columns: Span) -> Tensor:
        lead = int(time[0] > 0)
        first, last = max(0, (time[0] - 1) * scale[0]), (time[1] - 1) * scale[0] + 1
        cut = pixels[:, first:last, rows[0] * scale[1] : rows[1] * scale[1], columns[0] * scale[2] : columns[1] * scale[2]]
        return encode(cut[None])[0, :, lead:]

    return _gathered(piece, grid, tiling.cells(scale), lambda time: time, (1, 1, 1))


def decode_tiled(decode: Callable[[Tensor], Tensor], latents: Tensor, scale: tuple[int, int, int], tiling: Tiling) -> Tensor:
    """Decode latents `[C, F', H', W']` to pixels `[3, F, H, W]` float32 on the CPU, piece by piece.

    Args:
        decode: a function from the latents `[1, C, f', h', w']` of a piece to pixels `[1, 3, f, h, w]`.
    """
    grid = (int(latents.shape[1]), int(latents.shape[2]), int(latents.shape[3]))

    def piece(time: Span, rows: Span, columns: Span) -> Tensor:
        lead = int(time[0] > 0)
        cut = latents[:, time[0] - lead : time[1], rows[0] : rows[1], columns[0] : columns[1]]
        return decode(cut[None])[0, :, lead:]

    def frames(time: Span) -> Span:
        return max(0, (time[0] - 1) * scale[0] + 1), (time[1] - 1) * scale[0] + 1

    return _gathered(piece, grid, tiling.cells(scale), frames, (scale[0], scale[1], scale[2]))


def _gathered(
    piece: Callable[[Span, Span, Span], Tensor],
    grid: tuple[int, int, int],
    tiles: tuple[Span | None, Span | None, Span | None],
    frames: Callable[[Span], Span],
    scale: tuple[int, int, int],
) -> Tensor:
    """Compute the weighted mean of all pieces. A piece's weights fall off linearly over the whole overlap with a neighbor.

    Args:
        piece: a function from spans of latent cells to their piece, `[C, f, h, w]`.
        grid: the size of the grid in latent cells.
        frames: a function from a span of latent frames to the frames of the result that it covers.
        scale: the frames, rows and columns of the result that a cell covers.
    """
    total: Tensor | None = None
    weight = torch.empty(0)
    axes = [list(_ramped(spans(length, tile), tile)) for length, tile in zip(grid, tiles, strict=True)]
    for time, rows, columns in product(*axes):
        made = piece(time[0], rows[0], columns[0]).to("cpu", torch.float32)
        begin, end = frames(time[0])
        ramp = _ramp(end - begin, time, scale[0])[:, None, None]
        ramp = ramp * _ramp(int(made.shape[2]), rows, scale[1])[:, None] * _ramp(int(made.shape[3]), columns, scale[2])
        if total is None:
            total = torch.zeros(made.shape[0], frames((0, grid[0]))[1], grid[1] * scale[1], grid[2] * scale[2])
            weight = torch.zeros(total.shape[1:])
        place = (slice(begin, end), *(slice(span[0] * by, span[1] * by) for span, by in ((rows[0], scale[1]), (columns[0], scale[2]))))
        total[(slice(None), *place)] += made * ramp
        weight[place] += ramp
    if total is None:
        raise ValueError(f"a grid of {grid} has no cells")
    return total / weight


Ramped = tuple[Span, int, int]
"""A span, the number of cells that it shares with the span before, and the number that it shares with the span after."""


def _ramped(found: list[Span], tile: Span | None) -> Iterator[Ramped]:
    for at, span in enumerate(found):
        before = found[at - 1][1] - span[0] if at else 0
        after = span[1] - found[at + 1][0] if at + 1 < len(found) else 0
        yield span, before, after


def _ramp(length: int, ramped: Ramped, scale: int) -> Tensor:
    """Return the weights of `length` frames, rows or columns: the interior points of a ramp from 0 to 1 where a neighbor overlaps, 1
    elsewhere.

    Source: docs/explanation/arithmetic.md#tiles
    """
    _, before, after = ramped
    ramp = torch.ones(length)
    for cells, flip in ((before, False), (after, True)):
        if cells:
            points = torch.linspace(0.0, 1.0, cells * scale + 2)[1:-1]
            if flip:
                ramp[-len(points) :] *= points.flip(0)
            else:
                ramp[: len(points)] *= points
    return ramp
