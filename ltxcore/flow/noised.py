"""The noise that is added to a modality in training."""

from __future__ import annotations

import attrs

from ltxcore.flow.sigmas import add_noise, velocity
from ltxcore.protocols import Draws, ModelInput
from ltxcore.state import LatentState


def noised(seen: ModelInput, state: LatentState, draws: Draws) -> ModelInput:
    """Add noise to the target of a state, according to each token's own noise level, and compute the expected
    prediction.

    Source: docs/explanation/arithmetic.md#noise-of-a-token, #tokens-that-count
    """
    import torch

    target = slice(0, state.num_target)
    noise = draws.normal(f"{state.modality}.noise", state.clean.shape[1:])
    noisy = add_noise(state.clean, noise, seen.timesteps[:, target])
    return attrs.evolve(
        seen,
        tokens=torch.cat([noisy, state.appended], dim=1),
        noise=noise,
        velocity=velocity(state.clean, noise),
        loss_mask=state.denoise_mask[:, target] == 1,
    )
