"""Compute the scale of a chart, which maps values to positions, the round numbers along the scale, and their short form."""

from __future__ import annotations

import math

import attrs


@attrs.frozen
class Scale:
    """A map from values between `low` and `high` to positions between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def step(self, count: int) -> float:
        """Return a round distance between ticks, 1, 2 or 5 times a power of ten, that divides the scale into at most
        about `count` parts.
        """
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)

    def ticks(self, count: int) -> list[float]:
        """Return about `count` round numbers along the scale, one `step` apart."""
        step = self.step(count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]


def short_number(value: float) -> str:
    """Write a number in a short form that suits an axis."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"
