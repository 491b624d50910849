"""The audio modality, which has one token per latent step, made of the step's channels and frequency bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from ltxcore.state import Grid

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class AudioModality:
    """The audio modality, with latents `[B, C, T, M]` (C channels, M frequency bins) and tokens `[B, T, C*M]`.

    Attributes:
        mel_frames: the number of mel frames that a latent step covers; the first step covers only one.
        bins: M, the number of frequency bins of a latent.
        mel_rate: the mel frames per second; a mel frame has 160 samples, and there are 16,000 samples per second.
    """

    mel_frames: int = 4
    bins: int = 16
    mel_rate: float = 100.0
    name: str = "audio"

    @property
    def default_rate(self) -> float:
        """The number of latent steps per second."""
        return self.mel_rate / self.mel_frames

    def grid(self, latents: Tensor) -> Grid:
        """Return the grid of steps of latents `[B, C, T, M]`."""
        return self.grid_of(latents.shape[1:])

    def grid_of(self, shape: Sequence[int]) -> Grid:
        """Return the grid of steps of a stored latent of shape `(C, T, M)`."""
        return Grid(int(shape[1]), scale=(self.mel_frames, 1, 1))

    def patchify(self, latents: Tensor) -> Tensor:
        """Turn latents `[B, C, T, M]` into tokens `[B, T, C*M]`. Source: docs/explanation/arithmetic.md#tokens-of-a-sound"""
        return latents.transpose(1, 2).flatten(2)

    def unpatchify(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Turn tokens `[B, T, C*M]` into latents `[B, C, T, M]`."""
        return tokens.unflatten(2, (-1, self.bins)).transpose(1, 2)

    def positions(self, grid: Grid, rate: Tensor) -> Tensor:
        """Return the start and end of every step in seconds, `[B, 1, T, 2]` float32. Only the length B of `rate` `[B]` is used.

        Source: docs/explanation/arithmetic.md#positions-of-a-sound
        """
        import torch

        frames = grid.scale[0]
        start = (grid.frame * frames + 1 - frames).clamp_min(0)
        end = ((grid.frame + 1) * frames + 1 - frames).clamp_min(0)
        seconds = torch.stack([start, end], dim=-1).to(torch.float32) / self.mel_rate
        return seconds.expand(rate.shape[0], 1, grid.frames, 2)
