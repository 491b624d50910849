"""Sigma samplers: how noisy each training sample is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from ltxcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.protocols import Draws

LOW, HIGH = -2.5758, 3.0902
"""The 0.5 % and 99.9 % quantiles of the standard normal, which are stretched to 0 and 1. These decimals, not more."""


def _at_least_zero(_: object, field: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{field.name} is {value:g}; it is at least 0")


def _in_unit(_: object, field: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{field.name} is {value:g}; it lies between 0 and 1")


@attrs.frozen
class ShiftedLogitNormal:
    """A logit-normal, shifted towards noise for long sequences and stretched to reach 0 and 1; sometimes a uniform instead."""

    std: float = attrs.field(default=1.0, validator=_at_least_zero, metadata={"help": "spread of the normal under the sigmoid"})
    eps: float = attrs.field(default=1e-3, validator=_in_unit, metadata={"help": "smallest sigma; smaller ones are reflected at it"})
    uniform_prob: float = attrs.field(default=0.1, validator=_in_unit, metadata={"help": "share of samples with a uniform sigma instead"})

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Noise levels `[B]` float32 for a modality of `tokens` target tokens.

        Source: design section 4, "Sigma", in its stable form.
        """
        import torch

        z = draws.normal(f"{key}.normal").double()
        y = stretched_sigmoid(shift(tokens), self.std, z)
        y = torch.where(y < self.eps, 2 * self.eps - y, y).clamp(0, 1)
        uniform = self.eps + (1 - self.eps) * draws.uniform(f"{key}.uniform").double()
        return torch.where(draws.uniform(f"{key}.mix") < self.uniform_prob, uniform, y).float()


@attrs.frozen
class Uniform:
    """Every sigma between two bounds alike."""

    min_value: float = attrs.field(default=0.0, validator=_in_unit, metadata={"help": "smallest sigma"})
    max_value: float = attrs.field(default=1.0, validator=_in_unit, metadata={"help": "largest sigma"})

    def __attrs_post_init__(self) -> None:
        if self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value:g} is above max_value {self.max_value:g}")

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Noise levels `[B]` float32, whatever the number of tokens."""
        return self.min_value + (self.max_value - self.min_value) * draws.uniform(f"{key}.uniform")


def shift(tokens: int) -> float:
    """Where the logit-normal is centred for a sequence of this many target tokens; not clamped.

    Source: design section 4, "Sigma": `mu = 0.95 + (L - 1024) * 1.10 / 3072`.
    """
    return 0.95 + (tokens - 1024) * 1.10 / 3072


def stretched_sigmoid(mu: float, std: float, z: Tensor) -> Tensor:
    """`sigmoid(mu + std*z)`, stretched so that z = LOW gives 0 and z = HIGH gives 1; float64 in and out.

    Differences of sigmoids cancel once mu is large: in float32 from about 20,000 tokens, and from about 52,000 there is nothing left but 0 / 0. With
    `sigmoid(p) - sigmoid(q) = sinh((p - q) / 2) / (2 cosh(p / 2) cosh(q / 2))` nothing cancels.

    Source: design section 4, "Sigma".
    """
    if std == 0.0:  # all of the range is one point, and z tells nothing
        return z.new_full(z.shape, LOW / (LOW - HIGH))
    low, high = LOW * std, HIGH * std
    ratio = ((std * z - low) / 2).sinh() / math.sinh((high - low) / 2)
    return ratio * (_log_cosh(z.new_tensor((mu + high) / 2)) - _log_cosh((mu + std * z) / 2)).exp()


def _log_cosh(x: Tensor) -> Tensor:
    x = x.abs()
    return x + (-2 * x).exp().log1p() - math.log(2)


@hookimpl
def ltx_sigma_samplers() -> dict[str, type]:
    return {"shifted_logit_normal": ShiftedLogitNormal, "uniform": Uniform}
