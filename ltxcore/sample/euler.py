"""Take Euler steps from noise to clean tokens, and hold given tokens in place.

The noise levels of generation are also defined here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import attrs
import torch
from torch import Tensor

from ltxcore.errors import ConfigError
from ltxcore.levels import noise_levels
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
    """Return a denoiser without guidance, which runs the model once per step. Source:
    docs/explanation/arithmetic.md#clean-prediction
    """

    def denoise(inputs: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        velocities = model(inputs)
        return {name: clean_prediction(given, velocities[name]) for name, given in inputs.items() if given.is_generated}

    return denoise


def clean_prediction(given: ModelInput, velocity: Tensor) -> Tensor:
    """Return the clean tokens, `[B, T + R, D]` float32, that a velocity predicts at each token's own noise level."""
    return given.tokens.float() - velocity.float() * given.timesteps.unsqueeze(-1)


def start(given: ModelInput, noise: Tensor) -> ModelInput:
    """Prepare a generated modality for the first step: fill generated tokens with `noise` `[B, T, D]`, and given tokens
    with their clean content, or with this content at their own level.

    Source: docs/explanation/arithmetic.md#start-of-generation, #level-of-given-tokens
    """
    clean, mask = _known(given)
    share = mask if given.levels is None else mask + given.levels.unsqueeze(-1)
    target = clean[:, : noise.shape[1]] + share[:, : noise.shape[1]] * (noise - clean[:, : noise.shape[1]])
    return attrs.evolve(given, tokens=torch.cat([target, clean[:, noise.shape[1] :]], dim=1))


def euler(denoiser: Denoiser, inputs: Mapping[str, ModelInput], sigmas: Tensor, report: Report | None = None) -> dict[str, Tensor]:
    """Return the clean target tokens of every generated modality, `[B, T, D]`.

    Frozen modalities do not change. Given tokens are restored after every prediction, so they are unchanged, and clean, in the
    result.

    Args:
        denoiser: the function that predicts clean tokens.
        inputs: the inputs by modality; generated modalities are prepared by `start`, and have `clean` and
            `denoise_mask`.
        sigmas: the noise levels, `[N + 1]`, ending with 0; they are on the CPU, since each value is read.
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
    return {name: _result(given) for name, given in current.items() if given.is_generated}


def _result(given: ModelInput) -> Tensor:
    """Return the target tokens, `[B, T, D]`; those that were given at a level are clean again."""
    target = _target(given)
    tokens = given.tokens[:, :target]
    return tokens if given.levels is None or given.clean is None else given.clean.where(given.levels[:, :target, None] > 0, tokens)


def _at(given: ModelInput, sigma: float) -> ModelInput:
    """Return the input of a modality at another noise level; a frozen modality has no noise and is returned unchanged."""
    if not given.is_generated:
        return given
    assert given.denoise_mask is not None
    return attrs.evolve(given, sigma=torch.full_like(given.sigma, sigma), timesteps=noise_levels(sigma, given.denoise_mask, given.levels))


def _known(given: ModelInput) -> tuple[Tensor, Tensor]:
    """Return the tokens as they are given, `[B, T + R, D]`, the target tokens before the appended tokens; and the denoise mask,
    `[B, T + R, 1]`. Tokens without a level are clean.
    """
    if given.clean is None or given.denoise_mask is None:
        raise ValueError("sampling needs the clean tokens and the denoise mask")
    content = torch.cat([given.clean, given.tokens[:, _target(given) :]], dim=1)
    if given.levels is not None:
        content = given.tokens.where(given.levels.unsqueeze(-1) > 0, content)
    return content, given.denoise_mask.unsqueeze(-1)


def _target(given: ModelInput) -> int:
    if given.clean is None:
        raise ValueError("sampling needs the clean tokens")
    return int(given.clean.shape[1])


SHIFT = 2.05
TERMINAL = 0.1
"""The last noise level before 0."""


def levels_of_steps(sigmas: Sequence[float] | None, steps: int) -> Tensor:
    """Return the noise levels of generation, `[N + 1]` float32: those given, or else those that follow from a number of steps."""
    return schedule(steps) if sigmas is None else torch.tensor(sigmas)


def schedule(steps: int) -> Tensor:
    """Return noise levels from 1 to 0, `[steps + 1]` float32. They do not depend on the number of tokens.

    Raises:
        ConfigError: there are fewer than two steps, which cannot be stretched to the last noise level.

    Source: docs/explanation/arithmetic.md#noise-levels-of-generation
    """
    if steps < 2:
        raise ConfigError(f"sampling takes at least 2 steps, not {steps}", where="validation.inference_steps", remedy="30 is usual.")
    t = 1 - torch.arange(steps, dtype=torch.float64) / steps
    shifted = math.exp(SHIFT) / (math.exp(SHIFT) + 1 / t - 1)
    stretched = 1 - (1 - shifted) * (1 - TERMINAL) / (1 - shifted[-1])
    return torch.cat([stretched, torch.zeros(1, dtype=torch.float64)]).float()
