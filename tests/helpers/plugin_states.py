"""States and media to try conditions on."""

from __future__ import annotations

import torch

from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import Inputs, Medium
from ltxcore.state import LatentState


def video(
    frames: int = 3, height: int = 2, width: int = 2, *, rate: float = 24.0, scale: tuple[int, int, int] = (8, 32, 32), batch: int = 2
) -> Medium:
    """A clip of latent cells, four channels each."""
    latents = torch.randn(batch, 4, frames, height, width, generator=torch.Generator().manual_seed(frames))
    return _medium(VideoModality(scale), latents, rate)


def audio(steps: int = 5, *, batch: int = 2) -> Medium:
    """A sound of latent steps."""
    return _medium(AudioModality(), torch.randn(batch, 8, steps, 16, generator=torch.Generator().manual_seed(steps)), 25.0)


def state(target: Medium) -> LatentState:
    """The target as training has it, with nothing given yet."""
    modality = "video" if target.positions.shape[1] == 3 else "audio"
    return LatentState.start(modality, target.grid, target.rate, target.tokens, target.positions)


def given(after: LatentState) -> torch.Tensor:
    """How much of each target token is given, `[B, T]`."""
    return 1 - after.denoise_mask[:, : after.num_target]


NONE = Inputs()


def _medium(modality: VideoModality | AudioModality, latents: torch.Tensor, rate: float) -> Medium:
    rates, grid = torch.full((latents.shape[0],), rate), modality.grid(latents)
    return Medium(modality.patchify(latents), grid, rates, modality.positions(grid, rates))
