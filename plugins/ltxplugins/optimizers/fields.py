"""Keys that several optimizers have, and sizes that several states have."""

from __future__ import annotations

from math import prod
from typing import Any

import attrs

FLOAT32 = 4
"""Bytes of a number."""


def betas(first: float, second: float) -> Any:
    """How much of each of two running means stays from step to step."""
    return attrs.field(
        default=(first, second), validator=_in_unit, metadata={"help": "how much of its two running means stays, step by step"}
    )


def eps(default: float) -> Any:
    """A small number that keeps a division finite."""
    return attrs.field(default=default, validator=attrs.validators.gt(0), metadata={"help": "added to what it divides by"})


def bytes_of(shape: tuple[int, ...], tensors: int) -> int:
    """Bytes of so many float32 tensors of a shape."""
    return tensors * FLOAT32 * prod(shape)


def _in_unit(_: object, field: attrs.Attribute[Any], value: tuple[float, float]) -> None:
    if not all(0 <= each < 1 for each in value):
        raise ValueError(f"{field.name} are {list(value)}; each is at least 0 and below 1")
