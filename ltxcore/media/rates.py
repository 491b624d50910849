"""Frames per second, exact: the rates of television are fractions, which containers and people write as decimals."""

from __future__ import annotations

from fractions import Fraction

_TELEVISION = Fraction(1000, 1001)
_USUAL = frozenset({12, 15, 24, 30, 48, 60, 120, 240})
"""Whole rates whose television rate people also write with two decimals, such as 23.98."""
_FASTEST = 300
_THREE_DECIMALS = Fraction(1, 2000)
_MICROSECONDS = Fraction(1, 2_000_000)
_FINEST = 10_000
"""Largest denominator of a rate that is known as a float only."""


def exact_rate(rate: float | Fraction) -> Fraction:
    """The frames per second that are meant by a rate that may have been rounded: 24000/1001 for 23.976 and 23.98, 30000/1001 for 29.97.

    A rate is taken for N x 1000/1001 if that is it within three decimals, or its time between frames within whole microseconds (as in AVI), or, of the
    usual rates, if it is that with two decimals. Any other rate stays: a fraction what it is, a float the nearest fraction.
    """
    found = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(_FINEST) or Fraction(rate)
    whole = round(found / _TELEVISION)
    if found.denominator == 1 or not 1 <= whole <= _FASTEST:
        return found
    television = whole * _TELEVISION
    two_decimals = whole in _USUAL and round(found, 4) == round(television, 2)
    near = abs(found - television) <= _THREE_DECIMALS or abs(1 / found - 1 / television) <= _MICROSECONDS
    return television if two_decimals or near else found
