"""Numbers over steps: put into bins, smoothed."""

from __future__ import annotations

import pytest

from ltxcore.runs.curves import binned, smoothed
from ltxcore.runs.read_run import Series


def test_a_long_series_is_drawn_as_means_of_neighbours() -> None:
    series = Series(tuple(range(1, 11)), tuple(float(value) for value in range(10)))
    assert binned(series, 10) is series
    assert binned(series, 5) == Series((2, 4, 6, 8, 10), (0.5, 2.5, 4.5, 6.5, 8.5))


def test_smoothing_leaves_a_slope_straight_and_takes_noise_away() -> None:
    steps = tuple(range(100))
    slope = Series(steps, tuple(2.0 * step for step in steps))
    assert smoothed(slope).values == pytest.approx(slope.values)
    noisy = Series(steps, tuple(1.0 + (-1) ** step * 0.5 for step in steps))
    middle = smoothed(noisy).values[10:-10]
    assert max(abs(value - 1) for value in middle) < 0.07
