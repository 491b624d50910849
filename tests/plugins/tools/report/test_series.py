"""Numbers over steps, summarized."""

from __future__ import annotations

import math
import statistics

import pytest

from ltxplugins.tools.report.series import error_of_mean


def test_the_error_of_a_mean_is_that_of_independent_values() -> None:
    values = [1.0, 4.0, 2.0, 8.0]
    assert error_of_mean(values) == pytest.approx(statistics.stdev(values) / 2)
    assert error_of_mean([1.0]) == math.inf
