"""Define keys that several optimizers have, and compute the size of their state."""

from __future__ import annotations

from math import prod
from typing import Any

import attrs

FLOAT32 = 4
"""The size of a float32 number in bytes."""


def betas(first: float, second: float) -> Any:
    """Return the key that sets how much of each of the two running means is kept from step to step."""
    return attrs.field(
        default=(first, second), validator=_in_unit, metadata={"help": "share of each of its two running means that is kept in a step"}
    )


def eps(default: float) -> Any:
    """Return the key that sets a small number, which keeps a division finite."""
    return attrs.field(default=default, validator=attrs.validators.gt(0), metadata={"help": "small number added to the divisor"})


def bytes_of(shape: tuple[int, ...], tensors: int) -> int:
    """Return the total size in bytes of several float32 tensors with the same shape."""
    return tensors * FLOAT32 * prod(shape)


def _in_unit(_: object, field: attrs.Attribute[Any], value: tuple[float, float]) -> None:
    if not all(0 <= each < 1 for each in value):
        raise ValueError(f"{field.name} are {list(value)}; each must be at least 0 and below 1")
