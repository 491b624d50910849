"""Keys whose values are drawn: a table in place of the value says what the value is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ltxcore.config.reading import Unreadable
from ltxcore.config.scalars import can_be_drawn, number_of, wanted
from ltxcore.config.tables import Bounds, Key, keys_of
from ltxcore.drawn import MOST, Drawn, OneOf, Range, combinations, corners
from ltxcore.errors import many

if TYPE_CHECKING:
    from ltxcore.config.structurer import Structurer

FIT = Key("fit", bool, False, "draw only from the values that fit the sample, if some do not")


def range_keys(key: Key) -> list[Key]:
    """Return the keys of a table that draws a number between two ends; none for a key that is not a number."""
    number = number_of(key.kind)
    if number is None:
        return []
    ends = [Key(name, number, help=f"the {which} value", unit=key.unit, bounds=key.bounds) for name, which in ENDS.items()]
    scale = Key("scale", Literal["linear", "log"], "linear", "log: the logarithm is uniform, so that equal factors are equally likely")
    return [*ends, *([scale] if number is float else []), FIT]


ENDS = {"min": "least", "max": "greatest"}
WORDS = frozenset({*ENDS, "one_of"})
"""The keys that tell what a value is drawn from."""


def choice_keys(key: Key) -> list[Key]:
    """Return the keys of a table that draws one of several values."""
    kind: Any = list
    weights = Key("weights", list[float] | None, None, "how often each is drawn, compared with the others", bounds=Bounds(above=0))
    return [Key("one_of", kind[key.kind], help="the values", unit=key.unit, bounds=key.bounds, reads=key.reads), weights, FIT]


def drawn_value(structurer: Structurer, key: Key, value: Mapping[str, Any]) -> Drawn:
    """Read what the value of a key is drawn from.

    Raises:
        Unreadable: the table does not say what the value is drawn from, or is wrong.
    """
    reading = structurer.reading
    is_number = number_of(key.kind) is not None
    if "one_of" in value and value.keys() & ENDS.keys():
        reading.refuse("is drawn both between two values and from a list", "Keep min and max, or one_of.")
    if "one_of" in value:
        read = structurer.values(value, choice_keys(key))
        found = OneOf(tuple(read["one_of"]), None if read.get("weights") is None else tuple(read["weights"]), read.get("fit", False))
        if not found.one_of:
            reading.refuse("draws from an empty list", "Write the values in one_of.")
        if found.weights is not None and len(found.weights) != len(found.one_of):
            weights, values = many(len(found.weights), "weight", "weights"), many(len(found.one_of), "value", "values")
            reading.refuse(f"has {weights} for {values}", "Write one weight for each value.")
        return found
    if not is_number or not value.keys() & {"min", "max", "scale"}:
        remedy = "{ min = ..., max = ... } or { one_of = [..., ...] }" if is_number else "{ one_of = [..., ...] }"
        is_range = bool(value.keys() & ENDS.keys())
        what = f"is {wanted(key.kind)}, which has no minimum and maximum" if is_range else "does not say what it is drawn from"
        reading.refuse(what, f"Write {wanted(key.kind)}, or to draw one, {remedy}.")
    if number_of(key.kind) is int and value.get("scale") == "log":
        reading.refuse("is a whole number, which has no log scale", "Remove scale, or list the values in one_of, with weights.")
    drawn = Range(**structurer.values(value, range_keys(key)))
    if drawn.min > drawn.max:
        reading.refuse(f"has min {drawn.min}, which is above max {drawn.max}", "Exchange them.")
    if drawn.scale == "log" and not drawn.min > 0:
        reading.refuse(f"has min {drawn.min:g} on a log scale", "Set min above 0, or remove scale.")
    return drawn


def readers(structurer: Structurer, keys: Sequence[Key], table: Any) -> dict[str, Callable[[Any], Any]]:
    """Return a reader for each drawn key of a condition in training."""
    return {key.name: partial(drawn_value, structurer, key) for key in keys if key.is_drawable and isinstance(_in(table, key), dict)}


def refusals(structurer: Structurer, cls: Any, table: Any) -> dict[str, Callable[[Any], Any]]:
    """Return a reader for each key that a sample to generate draws, although only keys in training may be drawn. The reader notes the
    mistake.
    """

    def refuse(key: Key, _: Any) -> None:
        structurer.reading.refuse("is drawn, which is only possible in training", f"Here, write the value itself: {wanted(key.kind)}.")

    drawn = [key for key in keys_of(cls) if can_be_drawn(key.kind) and isinstance(found := _in(table, key), dict) and found.keys() & WORDS]
    return {key.name: partial(refuse, key) for key in drawn}


def _in(table: Any, key: Key) -> Any:
    return table.get(key.name) if isinstance(table, Mapping) else None


def made_at_bounds(structurer: Structurer, cls: Any, values: Mapping[str, Any], drawn: Mapping[str, Drawn]) -> Any:
    """Make an object of a class of conditions for each combination of the values at which drawn keys are validated, and return the first
    object.

    The whole numbers between the ends of a range are tried too, since a class may take only some of them.

    Raises:
        Unreadable: the class refuses some of them; each refusal is noted once.
    """
    reading = structurer.reading
    if combinations(drawn) > MOST:
        reading.refuse(
            f"may have {combinations(drawn):,} combinations of drawn values to check, more than {MOST:,}",
            "Draw fewer of its keys, draw from fewer values, or remove fit = true where the range is wide.",
        )
    before, made = len(reading.mistakes), []
    for corner in corners(drawn):
        try:
            made.append(structurer.made(cls, {**values, **corner}))
        except Unreadable:
            made.append(None)
    if None not in made:
        made += _made_between(structurer, cls, {**values, **next(corners(drawn))}, drawn)
    reading.mistakes[before:] = dict.fromkeys(reading.mistakes[before:])
    if None in made:
        raise Unreadable
    return made[0]


def _made_between(structurer: Structurer, cls: Any, first: Mapping[str, Any], drawn: Mapping[str, Drawn]) -> list[None]:
    """Make an object with each whole number of every range that is small enough, until a number is refused."""
    for key, each in drawn.items():
        between = [part.low for part in each.fine_parts] if isinstance(each, Range) and each.is_whole and each.count <= MOST else []
        for value in between:
            try:
                structurer.made(cls, {**first, key: value})
            except Unreadable:
                return [None]
    return []
