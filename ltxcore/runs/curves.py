"""Bin and smooth numbers over steps, to draw them as a curve."""

from __future__ import annotations

import math
from itertools import pairwise

from ltxcore.runs.read_run import Series

POINTS = 600
"""The maximum number of points in a curve."""

SPAN = 25
"""The divisor that sets the smoothing of a curve: each value is averaged over 1/25 of the points on either side."""


def binned(series: Series, points: int = POINTS) -> Series:
    """Return at most `points` means of neighboring points. Each mean is placed at the last step of its bin."""
    count = len(series)
    if count <= points:
        return series
    bounds = [count * index // points for index in range(points + 1)]
    bins = list(pairwise(bounds))
    return Series(
        tuple(series.steps[end - 1] for _, end in bins), tuple(math.fsum(series.values[start:end]) / (end - start) for start, end in bins)
    )


def smoothed(series: Series) -> Series:
    """Return the mean over a window around each point. Towards the ends, the window gets narrower but stays symmetric,
    so that a slope does not bend there.
    """
    count, half = len(series), max(1, len(series) // SPAN)
    if count < 3:
        return series
    sums = [0.0]
    for value in series.values:
        sums.append(sums[-1] + value)
    values = []
    for index in range(count):
        reach = min(half, index, count - 1 - index)
        values.append((sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))
    return Series(series.steps, tuple(values))
