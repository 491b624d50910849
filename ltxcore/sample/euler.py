"""Euler steps from noise to clean tokens, with given tokens held in place.

The noise levels of generation are defined here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import attrs
import torch
from torch import Tensor

from ltxcore.errors import ConfigError
from ltxcore.protocols import ModelInput

Model = Callable[[Mapping[str, ModelInput]], Mapping[str, Tensor]]
"""A model that returns velocities by modality, `[B, T + R, D]`."""

Denoiser = Callable[[Mapping[str, ModelInput]], Mapping[str, Tensor]]
"""A function that returns clean predictions by generated modality, `[B, T + R, D]`: the model alone, or several passes
combined by guidance.
"""

Report = Callable[[int, int], None]
"""A function that is called after each step with the number of steps done and the total number of steps."""


def plain(model: Model) -> Denoiser:
    """Return a denoiser that makes one pass per step, without guidance. Source: docs/explanation/arithmetic.md#clean-prediction"""

    def denoise(inputs: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        velocities = model(inputs)
        return {name: clean_prediction(given, velocities[name]) for name, given in inputs.items() if given.is_generated}

    return denoise


def clean_prediction(given: ModelInput, velocity: Tensor) -> Tensor:
    """Return the clean tokens that a velocity predicts, given each token's own noise level, `[B, T + R, D]` float32."""
    return given.tokens.float() - velocity.float() * given.timesteps.unsqueeze(-1)


def start(given: ModelInput, noise: Tensor) -> ModelInput:
    """Prepare a generated modality for the first step: `noise` `[B, T, D]` where tokens are generated, `clean` where
    they are given.

    Source: docs/explanation/arithmetic.md#start-of-generation
    """
    clean, mask = _known(given)
    target = clean[:, : noise.shape[1]] + mask[:, : noise.shape[1]] * (noise - clean[:, : noise.shape[1]])
    return attrs.evolve(given, tokens=torch.cat([target, clean[:, noise.shape[1] :]], dim=1))


def euler(denoiser: Denoiser, inputs: Mapping[str, ModelInput], sigmas: Tensor, report: Report | None = None) -> dict[str, Tensor]:
    """Return the clean target tokens of every generated modality, `[B, T, D]`.

    Frozen modalities stay as they are. Given tokens are put back after every prediction, so that they end as they were given.

    Args:
        denoiser: the function that predicts clean tokens.
        inputs: the inputs by modality; a generated modality is prepared by `start`, with `clean` and `denoise_mask`.
        sigmas: the noise levels, `[N + 1]`, the last of them 0; they are on the CPU, since each value is read.
        report: called after each step.

    Source: docs/explanation/arithmetic.md#euler-step, #held-tokens
    """
    current = dict(inputs)
    steps = len(sigmas) - 1
    for index, (sigma, after) in enumerate(pairwise(sigmas)):
        current = {name: _at(given, float(sigma)) for name, given in current.items()}
        for name, predicted in denoiser(current).items():
            given = current[name]
            clean, mask = _known(given)
            held = predicted * mask + clean * (1 - mask)
            tokens = given.tokens + (given.tokens - held) / sigma * (after - sigma)
            current[name] = attrs.evolve(given, tokens=tokens)
        if report is not None:
            report(index + 1, steps)
    return {name: given.tokens[:, : _target(given)] for name, given in current.items() if given.is_generated}


def _at(given: ModelInput, sigma: float) -> ModelInput:
    """Return the modality at another noise level; a frozen modality has no noise level and is returned as it is."""
    if not given.is_generated:
        return given
    assert given.denoise_mask is not None
    return attrs.evolve(given, sigma=torch.full_like(given.sigma, sigma), timesteps=sigma * given.denoise_mask)


def _known(given: ModelInput) -> tuple[Tensor, Tensor]:
    """Return the clean tokens, target then appended, `[B, T + R, D]`, and the denoise mask `[B, T + R, 1]`."""
    if given.clean is None or given.denoise_mask is None:
        raise ValueError("sampling needs the clean tokens and the denoise mask")
    return torch.cat([given.clean, given.tokens[:, _target(given) :]], dim=1), given.denoise_mask.unsqueeze(-1)


def _target(given: ModelInput) -> int:
    if given.clean is None:
        raise ValueError("sampling needs the clean tokens")
    return int(given.clean.shape[1])


SHIFT = 2.05
TERMINAL = 0.1
"""The last noise level before 0."""


def schedule(steps: int) -> Tensor:
    """Return noise levels from 1 to 0, `[steps + 1]` float32, which do not depend on the number of tokens.

    Raises:
        ConfigError: there are fewer than two steps, for which stretching to the last level is not defined.

    Source: docs/explanation/arithmetic.md#noise-levels-of-generation
    """
    if steps < 2:
        raise ConfigError(f"sampling takes at least 2 steps, not {steps}", where="validation.inference_steps", remedy="30 is usual.")
    t = 1 - torch.arange(steps, dtype=torch.float64) / steps
    shifted = math.exp(SHIFT) / (math.exp(SHIFT) + 1 / t - 1)
    stretched = 1 - (1 - shifted) * (1 - TERMINAL) / (1 - shifted[-1])
    return torch.cat([stretched, torch.zeros(1, dtype=torch.float64)]).float()
