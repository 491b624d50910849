"""The video modality, which has one token per latent cell, ordered by frame, then row, then column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from ltxcore.state import Grid

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_RATE = 24.0
"""The frames per second of stored video without a stated rate."""


@attrs.frozen
class VideoModality:
    """The video modality, with latents `[B, C, F, H, W]` and tokens `[B, F*H*W, C]`.

    A latent cell covers `scale` pixel frames, rows and columns, except that the first latent frame covers only one pixel frame.
    """

    scale: tuple[int, int, int] = (8, 32, 32)
    name: str = "video"

    @property
    def default_rate(self) -> float:
        """The frames per second of stored latents without a stated rate."""
        return DEFAULT_RATE

    def grid(self, latents: Tensor) -> Grid:
        """Return the grid of cells of latents `[B, C, F, H, W]`."""
        return self.grid_of(latents.shape[1:])

    def grid_of(self, shape: Sequence[int]) -> Grid:
        """Return the grid of cells of a stored latent of shape `(C, F, H, W)`."""
        _, frames, height, width = shape
        return Grid(int(frames), int(height), int(width), self.scale)

    def patchify(self, latents: Tensor) -> Tensor:
        """Turn latents `[B, C, F, H, W]` into tokens `[B, F*H*W, C]`.

        Source: docs/explanation/arithmetic.md#tokens-of-a-clip
        """
        return latents.flatten(2).transpose(1, 2)

    def unpatchify(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Turn tokens `[B, F*H*W, C]` into latents `[B, C, F, H, W]`."""
        return tokens.transpose(1, 2).unflatten(2, (grid.frames, grid.height, grid.width))

    def positions(self, grid: Grid, rate: Tensor) -> Tensor:
        """Return the start and end of every cell, in seconds, pixel rows and pixel columns, `[B, 3, T, 2]` float32.

        Args:
            grid: the grid of the T cells.
            rate: the frames per second of each sample, `[B]`.

        Source: docs/explanation/arithmetic.md#positions-of-a-clip
        """
        import torch

        frames, rows, columns = grid.scale
        first = (grid.frame * frames + 1 - frames).clamp_min(0)
        time = torch.stack([first, (grid.frame + 1) * frames + 1 - frames], dim=-1).to(torch.float32)
        seconds = time.unsqueeze(0) / rate.to(device="cpu", dtype=torch.float32).reshape(-1, 1, 1)
        height = torch.stack([grid.row * rows, (grid.row + 1) * rows], dim=-1).to(torch.float32)
        width = torch.stack([grid.column * columns, (grid.column + 1) * columns], dim=-1).to(torch.float32)
        return torch.stack([seconds, height.expand_as(seconds), width.expand_as(seconds)], dim=1)
