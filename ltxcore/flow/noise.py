"""Noise, by the token's own level."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def add_noise(clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Tokens between clean and noise, `[B, T, D]`.

    Args:
        clean: `[B, T, D]`.
        noise: `[B, T, D]`.
        timesteps: noise level of each token, `[B, T]`, 0 clean to 1 noise.

    Source: design section 4, "Training": `noisy = x + timesteps * (n - x)`.
    """
    return clean + timesteps.unsqueeze(-1) * (noise - clean)


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """What the model learns to say, `[B, T, D]`. Source: design section 4: `velocity = n - x`."""
    return noise - clean
