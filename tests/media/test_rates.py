"""Frames per second, exact."""

from fractions import Fraction

import pytest

from ltxcore.media.rates import exact_rate


@pytest.mark.parametrize("whole", [12, 15, 24, 30, 48, 60, 120, 240])
@pytest.mark.parametrize("decimals", [2, 3, 5, 12])
def test_a_rate_of_television_that_was_rounded_is_the_fraction_that_is_meant(whole: int, decimals: int) -> None:
    meant = Fraction(whole * 1000, 1001)
    for rounded in (round(meant, decimals), float(round(meant, decimals)), float(meant), meant):
        assert exact_rate(rounded) == meant


@pytest.mark.parametrize("whole", [24, 30, 48, 60, 120])
def test_a_rate_by_the_microseconds_between_frames_is_the_fraction_that_is_meant(whole: int) -> None:
    meant = Fraction(whole * 1000, 1001)
    assert exact_rate(Fraction(1_000_000, round(1_000_000 / meant))) == meant


@pytest.mark.parametrize(
    "rate", [1, 12, 12.5, 15, 16, 23.9, 23.95, 24, 24.5, 25, 29.9, 29.96, 30, 48, 50, 59.9, 60, 90, 100, 120, 240, 999, 1001]
)
def test_any_other_rate_stays_what_it_is(rate: float) -> None:
    assert exact_rate(rate) == Fraction(str(rate))
    assert exact_rate(Fraction(str(rate))) == Fraction(str(rate))


def test_an_average_of_uneven_frames_is_not_taken_for_a_rate_that_it_is_near() -> None:
    assert exact_rate(Fraction(299_756, 10_000)) == Fraction(299_756, 10_000)


def test_a_rate_too_low_for_a_fraction_is_not_nothing() -> None:
    assert exact_rate(1e-6) > 0
