"""How many threads a small model computes with on a CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

SMALL = 20_000_000
"""Parameters below which one thread is enough."""


@contextmanager
def few_threads(shapes: Iterable[tuple[int, ...]], device: torch.device) -> Iterator[None]:
    """One thread for a small model on a CPU, unless OMP_NUM_THREADS says otherwise; put back afterwards.

    Its operations take less than a millisecond, and threads that wait for one another as often as that gain little and lose much. The tiny model on
    two cores: 0.08 s a step with one thread, 0.06 s with two, but 0.2 to 1.6 s with two while something else runs on one of the cores.

    Args:
        shapes: of the model's parameters.
        device: where it is.
    """
    small = sum(math.prod(shape) for shape in shapes) < SMALL
    if device.type != "cpu" or not small or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
