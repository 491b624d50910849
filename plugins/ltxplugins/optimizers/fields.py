"""Keys that several optimizers have, and state sizes that they share."""

from __future__ import annotations

from math import prod
from typing import Any

import attrs

FLOAT32 = 4
"""The bytes of a float32 number."""


def betas(first: float, second: float) -> Any:
    """Return the key for how much of each of two running means is kept from step to step."""
    return attrs.field(
        default=(first, second), validator=_in_unit, metadata={"help": "share of each of its two running means that is kept in a step"}
    )


def eps(default: float) -> Any:
    """Return the key for a small number that keeps a division finite."""
    return attrs.field(default=default, validator=attrs.validators.gt(0), metadata={"help": "small number added to the divisor"})


def bytes_of(shape: tuple[int, ...], tensors: int) -> int:
    """Return the bytes of so many float32 tensors of a shape."""
    return tensors * FLOAT32 * prod(shape)


def _in_unit(_: object, field: attrs.Attribute[Any], value: tuple[float, float]) -> None:
    if not all(0 <= each < 1 for each in value):
        raise ValueError(f"{field.name} are {list(value)}; each must be at least 0 and below 1")
