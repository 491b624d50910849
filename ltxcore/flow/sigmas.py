"""Sigma samplers, which draw the noise level of each training sample, and noising, which gives each token its level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs

from ltxcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.protocols import Draws, ModelInput

T = TypeVar("T", float, "Tensor")

LOW, HIGH = -2.5758, 3.0902
"""The 0.5 % and 99.9 % quantiles of the standard normal distribution, which are stretched to 0 and 1. Exactly these decimals are used, not
more precise values.
"""

MOST_STD = 250
"""The largest standard deviation; beyond it, numbers in `stretched_sigmoid` are too large for float64."""

MOST_SHIFT = 1e9
"""The largest shift of uniform sigmas, and the inverse of the smallest; beyond it, the ends of the range have too few digits."""

BEHIND = "noise_behind"
"""The name of the draw for the noise of appended tokens, which follows the name of the modality."""


def _can_be_stretched(_: object, field: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{field.name} is {value:g}; it must be at least 0")
    if value > MOST_STD:
        raise ValueError(f"{field.name} is {value:g}; it must be at most {MOST_STD}")


def _above_zero(_: object, field: attrs.Attribute[float], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{field.name} is {value:g}; it must be above 0")


def _can_be_undone(of: object, field: attrs.Attribute[float], value: float) -> None:
    _above_zero(of, field, value)
    if not 1 / MOST_SHIFT <= value <= MOST_SHIFT:
        raise ValueError(f"{field.name} is {value:g}; it must be from {1 / MOST_SHIFT:g} to {MOST_SHIFT:g}")


def _in_unit(_: object, field: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{field.name} is {value:g}; it must lie between 0 and 1")


def _check_range(low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"min_value {low:g} is above max_value {high:g}")


@attrs.frozen
class ShiftedLogitNormal:
    """A logit-normal distribution, shifted towards noise for long sequences and stretched to reach 0 and 1. A share of the draws is uniform
    instead.

    With a range narrower than 0 to 1, sigmas are distributed as if every sigma outside the range were drawn again.
    """

    std: float = attrs.field(
        default=1.0, validator=_can_be_stretched, metadata={"help": "standard deviation of the normal before the sigmoid"}
    )
    eps: float = attrs.field(default=1e-3, validator=_in_unit, metadata={"help": "smallest sigma; smaller values are reflected at it"})
    uniform_prob: float = attrs.field(default=0.1, validator=_in_unit, metadata={"help": "share of samples whose sigma is uniform instead"})
    shift: float | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(_above_zero),
        metadata={
            "help": "fixed shift: 1 means no shift, larger values mean more noise; by default the shift grows with the number of tokens"
        },
    )
    min_value: float = attrs.field(default=0.0, validator=_in_unit, metadata={"help": "smallest sigma to train on"})
    max_value: float = attrs.field(default=1.0, validator=_in_unit, metadata={"help": "largest sigma to train on"})

    def __attrs_post_init__(self) -> None:
        _check_range(self.min_value, self.max_value)
        if self.max_value < self.eps:
            raise ValueError(f"max_value {self.max_value:g} is below eps {self.eps:g}, the smallest possible sigma")

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Draw noise levels `[B]` float32 for a modality of `tokens` target tokens.

        Source: docs/explanation/arithmetic.md#shifted-logit-normal
        """
        import torch

        mu = shift(tokens) if self.shift is None else math.log(self.shift)
        low = max(self.min_value, self.eps)
        y = stretched_sigmoid(mu, self.std, self._within(mu, draws.normal(f"{key}.normal").double()))
        y = torch.where(y < self.eps, 2 * self.eps - y, y).clamp(self.min_value, self.max_value)
        uniform = low + (self.max_value - low) * draws.uniform(f"{key}.uniform").double()
        return torch.where(draws.uniform(f"{key}.mix") < self.uniform_prob, uniform, y).float()

    def _within(self, mu: float, z: Tensor) -> Tensor:
        """Map normal draws to values whose sigmas are in the range, without changing their order.

        Draws are mapped by their quantiles, so that none is discarded.

        Source: docs/explanation/arithmetic.md#range-of-the-noise-levels
        """
        import torch

        first = z_of_sigma(mu, self.std, self.min_value) if self.min_value > self.eps and self.std else -math.inf
        last = z_of_sigma(mu, self.std, self.max_value) if self.max_value < 1 and self.std else math.inf
        if (first, last) == (-math.inf, math.inf):
            return z
        below, above = (torch.special.ndtr(z.new_tensor(edge)) for edge in (first, last))
        return torch.special.ndtri(below + (above - below) * torch.special.ndtr(z)).clamp(first, last)


@attrs.frozen
class Uniform:
    """A uniform distribution of sigmas between two bounds. It can be shifted towards noise or away from it."""

    min_value: float = attrs.field(default=0.0, validator=_in_unit, metadata={"help": "smallest sigma"})
    max_value: float = attrs.field(default=1.0, validator=_in_unit, metadata={"help": "largest sigma"})
    shift: float = attrs.field(
        default=1.0,
        validator=_can_be_undone,
        metadata={
            "help": "1 draws all sigmas equally often; s draws s * u / (1 + (s - 1) * u) for a uniform u, so larger values of s mean more noise"
        },
    )

    def __attrs_post_init__(self) -> None:
        _check_range(self.min_value, self.max_value)

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Draw noise levels `[B]` float32, whatever the number of tokens.

        Source: docs/explanation/arithmetic.md#uniform-noise-levels
        """
        low, high = _shifted(self.min_value, 1 / self.shift), _shifted(self.max_value, 1 / self.shift)
        return _shifted(low + (high - low) * draws.uniform(f"{key}.uniform"), self.shift)


def _shifted(sigma: T, by: float) -> T:
    """Multiply the odds of sigmas, sigma / (1 - sigma), by a factor. A factor of 1 leaves sigmas unchanged to the last bit.

    Source: docs/explanation/arithmetic.md#shift-of-a-noise-level
    """
    return sigma if by == 1 else by * sigma / (1 + (by - 1) * sigma)


def shift(tokens: int) -> float:
    """Return the center of the logit-normal distribution for a sequence of `tokens` target tokens, without clamping.

    Source: docs/explanation/arithmetic.md#centre-of-the-noise-levels
    """
    return 0.95 + (tokens - 1024) * 1.10 / 3072


def stretched_sigmoid(mu: float, std: float, z: Tensor) -> Tensor:
    """Return `sigmoid(mu + std*z)` for float64 z, stretched so that z = LOW gives 0 and z = HIGH gives 1.

    Differences of sigmoids lose digits if mu is large. In float32, this begins at about 20,000 tokens; from about 52,000 tokens on, only 0
    / 0 is left. With `sigmoid(p) - sigmoid(q) = sinh((p - q) / 2) / (2 cosh(p / 2) cosh(q / 2))`, no digits are lost.

    Source: docs/explanation/arithmetic.md#stable-form-of-the-shifted-logit-normal
    """
    if std == 0.0:  # the whole range is a single point, and z has no effect
        return z.new_full(z.shape, LOW / (LOW - HIGH))
    low, high = LOW * std, HIGH * std
    ratio = ((std * z - low) / 2).sinh() / math.sinh((high - low) / 2)
    return ratio * (_log_cosh(z.new_tensor((mu + high) / 2)) - _log_cosh((mu + std * z) / 2)).exp()


def z_of_sigma(mu: float, std: float, sigma: float) -> float:
    """Return the z for which `stretched_sigmoid(mu, std, z)` is `sigma`; `sigma` must be above 0 and below 1.

    `1 - sigmoid(p)` is linear in sigma between its values at the ends. Its logarithm is used, since it is tiny for large mu.
    """
    at_low, at_high = _log_rest(mu + LOW * std), _log_rest(mu + HIGH * std)
    rest = at_low + math.log1p(sigma * math.expm1(at_high - at_low))
    return (math.log(-math.expm1(rest)) - rest - mu) / std


def _log_rest(p: float) -> float:
    """Return `log(1 - sigmoid(p))` without losing digits."""
    return -p - math.log1p(math.exp(-p)) if p > 0 else -math.log1p(math.exp(p))


def _log_cosh(x: Tensor) -> Tensor:
    x = x.abs()
    return x + (-2 * x).exp().log1p() - math.log(2)


@hookimpl
def ltx_sigma_samplers() -> dict[str, type]:
    return {"shifted_logit_normal": ShiftedLogitNormal, "uniform": Uniform}


def add_noise(clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Mix clean tokens with noise, `[B, T, D]`.

    Args:
        clean: the clean tokens, `[B, T, D]`.
        noise: the noise, `[B, T, D]`.
        timesteps: the noise level of each token, `[B, T]`, from 0 (clean) to 1 (noise).

    Source: docs/explanation/arithmetic.md#noise-of-a-token
    """
    return clean + timesteps.unsqueeze(-1) * (noise - clean)


def with_noise_behind(given: ModelInput, noise: Callable[[Sequence[int]], Tensor]) -> ModelInput:
    """Return an input in which appended tokens that are given at a noise level have noise of this level.

    Args:
        given: the input, with appended tokens that are still clean.
        noise: takes the shape `[R, D]` of the appended tokens of a sample, and returns the noise of all samples, `[B, R, D]`. It is called
            only if there are appended tokens at a level.

    Source: docs/explanation/arithmetic.md#level-of-given-tokens
    """
    import torch

    if given.levels is None or given.clean is None:
        return given
    target = given.clean.shape[1]
    levels, clean = given.levels[:, target:], given.tokens[:, target:]
    if not bool(levels.any()):
        return given
    return attrs.evolve(given, tokens=torch.cat([given.tokens[:, :target], add_noise(clean, noise(clean.shape[1:]), levels)], dim=1))


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """Return the velocity that the model learns to predict, `[B, T, D]`. Source: docs/explanation/arithmetic.md#velocity"""
    return noise - clean
