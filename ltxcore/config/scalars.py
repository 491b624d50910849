"""Strict reading of values: `"false"` is not a truth value, and `3.7` is not a whole number. The module also names types for messages."""

from __future__ import annotations

import datetime
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import cattrs

from ltxcore.addresses import Address
from ltxcore.config.reading import Reading, Unreadable, spelled
from ltxcore.errors import did_you_mean

WANTED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    Address: "an address",
    dict: "a table",
    list: "a list",
}


LISTS = (list, tuple, frozenset, set, Sequence)


def described(value: Any) -> str:
    """Describe a TOML value for a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        shown = value if len(value) <= 40 else value[:37] + "..."
        return f'the text "{shown}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, (datetime.date, datetime.time)):
        return f"the date or time {value}"
    return str(value)


def is_a(value: Any, kind: Any) -> bool:
    """Return whether a TOML value is of exactly this type; a whole number is also accepted as a number, and text as a path."""
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind in (str, Path):
        return isinstance(value, str)
    return isinstance(value, kind)


def wanted(kind: Any) -> str:
    """Name a type for a message."""
    kind = getattr(kind, "__supertype__", kind)
    if kind in WANTED:
        return WANTED[kind]
    origin, inner = get_origin(kind), [part for part in get_args(kind) if part is not type(None)]
    if origin is Literal:
        return " or ".join(f'"{name}"' if isinstance(name, str) else str(name) for name in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(wanted(part) for part in inner if not (part is int and float in inner))
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)} {_plural(inner[0])}"
    if origin in LISTS:
        return f"a list of {_plural(inner[0])}"
    if origin in (dict, Mapping):
        return "a table"
    return "a table" if attrs.has(kind) else f"a {getattr(kind, '__name__', kind)}"


def _plural(kind: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts", Path: "paths", bool: "truth values"}.get(
        kind, "tables" if attrs.has(kind) else "values"
    )


def can_be_drawn(kind: Any) -> bool:
    """Return whether a value of this type is a number, a text, a choice, or a list of those. A table in place of such a value says what it
    is drawn from.
    """
    kind = getattr(kind, "__supertype__", kind)
    if get_origin(kind) is Literal:
        return True
    if _is_union(kind) or get_origin(kind) in LISTS:
        return all(can_be_drawn(part) for part in get_args(kind) if part not in (type(None), Ellipsis))
    return kind in (bool, int, float, str, Path)


def number_of(kind: Any) -> Any:
    """Return int or float if values of this type are such numbers, and None if they are something else."""
    kind = getattr(kind, "__supertype__", kind)
    parts = {part for part in get_args(kind) if part is not type(None)} if _is_union(kind) else {kind}
    return (float if float in parts else int) if parts and parts <= {int, float} else None


def register_scalars(converter: cattrs.Converter, reading: Reading) -> None:
    """Teach a converter to read TOML values strictly, and to note mistakes."""
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _scalar(reading))
    for predicate, hook in (
        (_is_literal, _literal),
        (_is_union, _union),
        (_is_fixed_tuple, _fixed_tuple),
        (_is_list, _list),
        (_is_dict, _dict),
    ):
        converter.register_structure_hook_func(predicate, hook(converter, reading))


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _is_fixed_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis


def _is_list(kind: Any) -> bool:
    return kind is list or (get_origin(kind) in LISTS and not _is_fixed_tuple(kind))


def _is_dict(kind: Any) -> bool:
    return kind is dict or get_origin(kind) in (dict, Mapping)


def _scalar(reading: Reading) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        if not is_a(value, kind):
            refuse_type(reading, value, kind)
        return float(value) if kind is float else value

    return structure


def refuse_type(reading: Reading, value: Any, kind: Any) -> None:
    """Describe the type that a value must have and, for simple types, how to write the value.

    Raises:
        Unreadable: always.
    """
    remedy = ""
    bare = value.strip() if isinstance(value, str) else ""
    if kind is bool and bare.lower() in ("true", "false"):
        remedy = f"Write {bare.lower()}, without quotes."
    elif kind in (int, float) and is_number(bare, kind):
        remedy = f"Write {bare}, without quotes."
    elif kind is int and isinstance(value, float) and abs(value) < 2**63 and value == int(value):
        remedy = f"Write {int(value)}."
    elif kind in (str, Path) and isinstance(value, (int, float)):
        remedy = f'Write "{described(value)}", in quotes.'
    elif kind is Path:
        remedy = "Write one path, in quotes."
    what = "a finite number" if kind is float and isinstance(value, float) else wanted(kind)
    reading.refuse(f"must be {what}, not {described(value)}", remedy)


def is_number(text: str, kind: Any = float) -> bool:
    """Return whether text spells a number of this type."""
    try:
        return math.isfinite(kind(text))
    except (ValueError, OverflowError):
        return False


def _literal(_: cattrs.Converter, reading: Reading) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        choices = get_args(kind)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            texts = [choice for choice in choices if isinstance(choice, str)]
            remedy = did_you_mean(value, texts) if isinstance(value, str) else ""
            reading.refuse(f"must be {wanted(kind)}, not {described(value)}", remedy)
        return value

    return structure


def _union(converter: cattrs.Converter, reading: Reading) -> Callable[[Any, Any], Any]:
    """Return a hook that reads a value as the first member of a union that fits the value's TOML type, trying int before float
    for a whole number.
    """

    def structure(value: Any, kind: Any) -> Any:
        members = [part for part in get_args(kind) if part is not type(None)]
        if value is None:
            return None
        if len(members) == 1:
            return converter.structure(value, members[0])
        for member in members:
            if _fits(value, member):
                return converter.structure(value, member)
        reading.refuse(f"must be {wanted(kind)}, not {described(value)}")
        return None

    return structure


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (bool, int, float, str, Path):
        return is_a(value, kind)
    if get_origin(kind) in LISTS:
        return isinstance(value, list)
    return isinstance(value, dict)


def _elements(converter: cattrs.Converter, reading: Reading, value: list[Any], kinds: Sequence[Any]) -> list[Any]:
    read, failed = [], False
    for index, (element, kind) in enumerate(zip(value, kinds, strict=True)):
        with reading.at(index):
            try:
                read.append(converter.structure(element, kind))
            except Unreadable:
                failed = True
    if failed:
        raise Unreadable
    return read


def _list(converter: cattrs.Converter, reading: Reading) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        if not isinstance(value, list):
            single = get_args(kind)[:1]
            remedy = "Write it in brackets: [...]." if single and _fits(value, single[0]) else ""
            if remedy and isinstance(value, dict) and all(isinstance(part, str) for part in reading.path):
                remedy = f"Write it in brackets: [...], or as [[{spelled(reading.path)}]]."
            reading.refuse(f"must be {wanted(kind)}, not {described(value)}", remedy)
        inner = (*get_args(kind), Any)[0]
        made = {tuple: tuple, frozenset: frozenset, set: set}.get(get_origin(kind), list)
        return made(_elements(converter, reading, value, [inner] * len(value)))

    return structure


def _fixed_tuple(converter: cattrs.Converter, reading: Reading) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        kinds = get_args(kind)
        if not isinstance(value, list):
            reading.refuse(f"must be {wanted(kind)}, not {described(value)}")
        if len(value) != len(kinds):
            reading.refuse(f"must be {wanted(kind)}, not of {len(value)}")
        return tuple(_elements(converter, reading, value, kinds))

    return structure


def _dict(converter: cattrs.Converter, reading: Reading) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            reading.refuse(f"must be a table, not {described(value)}")
        inner = get_args(kind)[1] if get_args(kind) else Any
        return _elements_by_name(converter, reading, value, inner)

    return structure


def _elements_by_name(converter: cattrs.Converter, reading: Reading, value: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    read, failed = {}, False
    for name, element in value.items():
        with reading.at(name):
            try:
                read[name] = converter.structure(element, kind)
            except Unreadable:
                failed = True
    if failed:
        raise Unreadable
    return read
