"""Tables with some unknown keys: keys whose values in the file are wrong, or name files that do not exist.

Code that asks for an unknown key stops with `Unreadable`, which is not shown, since the mistake is already noted. Code that does
not need the key goes on, and finds other mistakes. As a result, no message is a mere consequence of another mistake.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, cast, get_args

import attrs

from ltxcore.config.reading import Reading, Unreadable
from ltxcore.config.tables import Key

T = TypeVar("T")


def parted(cls: type[T], values: Mapping[str, Any], unknown: Collection[str]) -> T:
    """Make an object of an attrs class in which the keys in `unknown`, and attributes that depend on them, raise `Unreadable`
    when they are read.

    Args:
        cls: the class; neither its validators nor its post-init hook is run.
        values: the values of some keys; others have their defaults.
        unknown: the keys without a value, even if `values` has one.
    """
    made: Any = object.__new__(_class(cast(Any, cls)))
    for field in attrs.fields(cast(Any, cls)):
        name = field.alias or field.name
        if name not in unknown:
            _fill(made, field, values)
    return cast(T, made)


def is_whole(table: object) -> bool:
    """Return whether all keys of a table are known."""
    return not hasattr(type(table), "whole")


def unknown_keys(reading: Reading, before: int, keys: Sequence[Key], in_parts: Collection[type]) -> set[str]:
    """Return those keys of a table that have wrong values. A key whose value is a table that is read in parts is left out, since
    that table keeps track of its own unknown keys.

    Args:
        reading: the reading, which is now in the table; `before` is the number of mistakes that it had found before the table.
        keys: the table's keys.
        in_parts: the classes of tables that are read in parts.
    """
    own = {key.name: key for key in keys if not any(kind in in_parts for kind in (key.kind, *get_args(key.kind)))}
    names, found = {key.name for key in keys}, set[str]()
    for mistake in reading.mistakes[before:]:
        name, *below = map(str, mistake.path[len(reading.path) :] or ("",))
        if name not in names:
            # A fault of the table as a whole may be due to any of its keys; and an unknown key may have been meant as a known one.
            found |= own.keys() if not name and not mistake.absent else {key for key in own if f'"{key}"' in mistake.remedy}
        elif name in own and not (
            mistake.absent and len(below) > 1 and get_args(own[name].kind)
        ):  # a table in a list keeps account of its own unknown keys
            found.add(name)
    return found


def made_of(cls: type[T], table: object, names: Mapping[str, str], unknown: Collection[str] = (), **others: Any) -> T:
    """Make an object of an attrs class from values of a table; keys that are unknown in the table are unknown in the
    object.

    Args:
        cls: the class.
        table: the table that has the values.
        names: the table's key for each key of the class.
        unknown: further unknown keys of the class.
        others: further values.
    """
    known = dict(others)
    for name, key in names.items():
        with suppress(Unreadable):
            known[name] = getattr(table, key)
    lacking = {*unknown, *(names.keys() - known.keys())}
    return parted(cls, known, lacking) if lacking else cls(**known)


def evolved(table: T, unknown: Collection[str] = (), **changes: Any) -> T:
    """Change a table as `attrs.evolve` does, even if it has unknown keys; the keys in `unknown` become unknown too."""
    cls: Any = getattr(type(table), "whole", type(table))
    names = {field.alias or field.name: field.name for field in attrs.fields(cls) if field.init}
    kept = {name: key for name, key in names.items() if name not in (*changes, *unknown)}
    return cast(T, made_of(cls, table, kept, unknown, **changes))


def _fill(made: Any, field: attrs.Attribute[Any], values: Mapping[str, Any]) -> None:
    name, default = field.alias or field.name, cast(Any, field.default)
    if name in values:
        value = values[name]
    elif default is attrs.NOTHING:
        return
    elif not hasattr(default, "takes_self"):
        value = default
    else:
        try:
            value = default.factory(made) if default.takes_self else default.factory()
        except Unreadable:
            return
    object.__setattr__(made, field.name, value)


@functools.cache
def _class(cls: type) -> type:
    """Return a subclass of a class whose attributes need not be set."""
    names = {field.name for field in attrs.fields(cast(Any, cls))}

    def missing(_: Any, name: str) -> NoReturn:
        if name in names:
            raise Unreadable
        raise AttributeError(f"{cls.__name__} has no attribute {name}")

    def compared(_: Any, other: object) -> NoReturn:
        raise Unreadable

    return type(cls.__name__, (cls,), {"__slots__": (), "whole": cls, "__getattr__": missing, "__eq__": compared, "__hash__": None})
