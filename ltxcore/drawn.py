"""Parameters of conditions whose values are drawn: the values that a key may have, and the value for a random number."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

Scale = Literal["linear", "log"]

BINS = 8
"""The largest number of values of a key that are reported one by one, and the number of bins in which more values than that are
reported.
"""

PARTS = 32
"""The number of equal parts that a range of real numbers is divided into; only the parts that fit a sample are used."""

MOST = 1024
"""The largest number of combinations of values that are tried on samples of one size."""


@attrs.frozen
class Part:
    """A part of the values that a key may have: all values from `low` to `high`, or a single value if these are equal.

    Attributes:
        low, high: the two ends, both included; if they are whole numbers, so are all values between them.
        weight: how often the part is drawn, compared with the other parts.
        scale: "log" if equal factors, rather than equal differences, are equally likely.
    """

    low: Any
    high: Any
    weight: float = 1.0
    scale: Scale = "linear"

    @property
    def ends(self) -> tuple[Any, ...]:
        return (self.low,) if self.low == self.high else (self.low, self.high)

    def at(self, place: float) -> Any:
        """Return the value at a position from 0 (the low end) to 1 (the high end).

        Source: docs/explanation/arithmetic.md#drawn-values
        """
        low, high = self.low, self.high
        if low == high:
            return low
        if isinstance(low, int):
            return min(low + int(place * (high - low + 1)), high)
        value = low * (high / low) ** place if self.scale == "log" else low + (high - low) * place
        return min(max(value, low), high)


@attrs.frozen
class Range:
    """Numbers from `min` to `max`, both included; whole numbers if both ends are whole.

    Attributes:
        min: the least value.
        max: the greatest value.
        scale: "log" if equal factors are equally likely, for real numbers above 0.
        fit: whether only values that fit a sample are drawn for it.
    """

    min: Any
    max: Any
    scale: Scale = "linear"
    fit: bool = False

    @property
    def is_whole(self) -> bool:
        return isinstance(self.min, int)

    @property
    def bounds(self) -> tuple[Any, ...]:
        """The values at which the key is validated."""
        return Part(self.min, self.max).ends

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are drawn from: a single one, the whole range."""
        return (Part(self.min, self.max, scale=self.scale),)

    @property
    def fine_parts(self) -> tuple[Part, ...]:
        """The smallest parts; each of them either fits a sample as a whole or does not fit it."""
        if self.is_whole:
            return tuple(Part(value, value) for value in range(self.min, self.max + 1))
        edges = [self.parts[0].at(index / PARTS) for index in range(PARTS + 1)]
        return tuple(Part(low, high, scale=self.scale) for low, high in itertools.pairwise(edges))

    @property
    def count(self) -> int:
        """The number of fine parts."""
        return self.max - self.min + 1 if self.is_whole else PARTS

    def label(self, value: Any) -> str:
        """Return the name in metrics of a value or, if there are many values, of the bin that it lies in."""
        if self.is_whole:
            if self.count <= BINS:
                return str(value)
            low, high = _bin(value - self.min, self.count)
            return _between(self.min + low, self.min + high)
        if self.min == self.max:
            return f"{value:.3g}"
        edges = [self.parts[0].at(index / BINS) for index in range(BINS + 1)]
        index = max(index for index, low in enumerate(edges[:-1]) if low <= value)
        return _between(f"{edges[index]:.3g}", f"{edges[index + 1]:.3g}")

    def __str__(self) -> str:
        return f"{self.min} to {self.max}"


@attrs.frozen
class OneOf:
    """One of several values.

    Attributes:
        one_of: the values.
        weights: how often each value is drawn, compared with the others; None if all are equally likely.
        fit: whether only values that fit a sample are drawn for it.
    """

    one_of: tuple[Any, ...]
    weights: tuple[float, ...] | None = None
    fit: bool = False

    @property
    def bounds(self) -> tuple[Any, ...]:
        """The values at which the key is validated: all of them."""
        return self.one_of

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are drawn from: one for each value."""
        return tuple(Part(value, value, weight) for value, weight in zip(self.one_of, self.weights or [1.0] * self.count, strict=True))

    @property
    def fine_parts(self) -> tuple[Part, ...]:
        """The smallest parts; each of them either fits a sample as a whole or does not fit it."""
        return self.parts

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.one_of)

    def label(self, value: Any) -> str:
        """Return the name in metrics of a value or, if there are many values, of the bin that it lies in: numbers are put into bins by
        their size, other values by their places in the list.
        """
        if self.count <= BINS:
            return _named(value)
        if all(isinstance(each, int | float) for each in self.one_of):
            numbers = sorted(self.one_of)
            low, high = _bin(numbers.index(value), self.count)
            return _between(_named(numbers[low]), _named(numbers[high]))
        low, high = _bin(self.one_of.index(value), self.count)
        return f"number_{_between(low + 1, high + 1)}"

    def __str__(self) -> str:
        return f"one of {self.count} value{'' if self.count == 1 else 's'}"


Drawn = Range | OneOf
"""What the value of a key is drawn from."""


def written(drawn: Drawn) -> dict[str, Any]:
    """Return the table that a run file has in place of the value; keys with their default values are left out."""
    return attrs.asdict(drawn, recurse=False, filter=lambda field, value: value != field.default)


@attrs.frozen
class Value:
    """A value that was drawn, with its name in metrics."""

    value: Any
    label: str


def drawn_part(parts: Sequence[Part], number: float) -> tuple[Part, Any]:
    """Return the part, and the value in it, that a number from 0 to 1 stands for.

    Source: docs/explanation/arithmetic.md#drawn-values
    """
    place = number * sum(part.weight for part in parts)
    for part in parts[:-1]:
        if place < part.weight:
            return part, part.at(place / part.weight)
        place -= part.weight
    return parts[-1], parts[-1].at(min(place / parts[-1].weight, 1.0))


def corners(drawn: Mapping[str, Drawn]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values at which keys are validated."""
    for values in itertools.product(*(each.bounds for each in drawn.values())):
        yield dict(zip(drawn, values, strict=True))


def combinations(drawn: Mapping[str, Drawn]) -> int:
    """Count the combinations that are tried on samples of one size."""
    count = 1
    for each in drawn.values():
        count *= each.count if each.fit else len(each.bounds)
    return count


def first_value(written: Any) -> Any:
    """Return the first of the values that a key may have, given what a run file writes for the key; a value that is not drawn is returned
    unchanged.
    """
    if isinstance(written, Mapping) and written.keys() & {"min", "one_of"}:
        return written["min"] if "min" in written else written["one_of"][0]
    return written


def spoken(values: Mapping[str, Any]) -> str:
    """Spell the values of keys as in a run file."""
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in values.items())


def _bin(index: int, count: int) -> tuple[int, int]:
    """Return the first and the last index of the bin that an index falls into if the indices below `count` are divided into `BINS` bins."""
    number = index * BINS // count
    return -(-number * count // BINS), -(-(number + 1) * count // BINS) - 1


def _between(low: Any, high: Any) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _named(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return re.sub(r"[^\w.,+-]", "_", text)
