"""Compute the scale of a change, and alphas that every dtype can store exactly."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ltxcore.api.adapters import AdapterSettings

ALPHA = "alpha"
"""The name under which a file stores a module's alpha."""

FACTORS = "dora_scale"
"""The name of the tensor with a factor for each row of the changed matrix, which ComfyUI divides by the length of the base's row."""


def has_row_factors(shapes: Mapping[str, tuple[int, ...]], rows: int) -> bool:
    """Return whether the factors of a module in a file belong to its rows. This is also true of a module without factors."""
    found = shapes.get(FACTORS, (rows,))
    return prod(found) == rows == found[0]


def scale_of(settings: AdapterSettings) -> float:
    """Return alpha / rank; 1 if there is no alpha."""
    return 1.0 if settings.alpha is None else float(settings.alpha / settings.rank)


def power_of_two(rank: int) -> float:
    """Return the largest power of two that is at most the rank. Every dtype can store such an alpha exactly, but not
    every rank.
    """
    return float(2 ** (rank.bit_length() - 1))


def has_one_alpha(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether the alpha of a module in a file is a single number. This is also true of a module without an alpha."""
    return prod(shapes.get(ALPHA, ())) == 1
