"""Summarize numbers over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def error_of_mean(values: Sequence[float]) -> float:
    """Return the standard error of the mean of independent values. For fewer than two values, it cannot be estimated
    and is infinite.
    """
    if len(values) < 2:
        return math.inf
    middle = mean(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values))
