"""Numbers over steps: read, put into bins, smoothed."""

from __future__ import annotations

import math
import statistics

import pytest

from ltxcore.report.series import Series, binned, error_of_mean, series_of, smoothed


def test_numbers_are_gathered_by_name_and_a_step_that_was_done_again_counts_as_it_was_last() -> None:
    lines = [
        {"step": 2, "loss": 5.0},
        {"step": 1, "loss": 4},
        {"step": 2, "loss": 3.0, "rate": 0.5},
        {"step": 3, "loss": math.nan, "sample": "a"},
    ]
    assert series_of([*lines, {"step": 4, "done": True}]) == {"loss": Series((1, 2), (4.0, 3.0)), "rate": Series((2,), (0.5,))}


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


def test_the_error_of_a_mean_is_that_of_independent_values() -> None:
    values = [1.0, 4.0, 2.0, 8.0]
    assert error_of_mean(values) == pytest.approx(statistics.stdev(values) / 2)
    assert error_of_mean([1.0]) == math.inf


def test_a_part_begins_after_its_first_step() -> None:
    assert Series((1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)).between(2, 4) == Series((3, 4), (3.0, 4.0))


def test_what_is_no_finite_number_is_left_out() -> None:
    odd = [10**400, -(10**400), math.inf, math.nan, True, "1", None, [1]]
    assert series_of([{"step": step, "loss": value} for step, value in enumerate(odd)] + [{"step": 9, "loss": 2}]) == {
        "loss": Series((9,), (2.0,))
    }
