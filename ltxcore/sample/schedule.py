"""The noise levels that sampling goes through."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ltxcore.errors import ConfigError

SHIFT = 2.05
TERMINAL = 0.1
"""The last level before 0."""


def schedule(steps: int) -> Tensor:
    """Noise levels from 1 to 0, `[steps + 1]` float32, the same for every number of tokens.

    Raises:
        ConfigError: fewer than two steps, for which the stretch to the last level has no meaning.

    Source: design section 4, "Sampling".
    """
    if steps < 2:
        raise ConfigError(f"sampling takes at least 2 steps, not {steps}", where="validation.inference_steps", remedy="30 is usual.")
    t = 1 - torch.arange(steps, dtype=torch.float64) / steps
    shifted = math.exp(SHIFT) / (math.exp(SHIFT) + 1 / t - 1)
    stretched = 1 - (1 - shifted) * (1 - TERMINAL) / (1 - shifted[-1])
    return torch.cat([stretched, torch.zeros(1, dtype=torch.float64)]).float()
