"""What to do about a key that its table does not have: a typo, a key of another table, another trainer's word, or nothing that is known here."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import attrs

from ltxcore.config.foreign import IN_CONDITIONS, IN_VALIDATION, NOTHING, NOTHING_LIKE_IT, OTHERWISE, SAME
from ltxcore.config.reading import KeyPath, spelled
from ltxcore.config.run_file import RunFile
from ltxcore.config.tables import Key, keys_of
from ltxcore.errors import did_you_mean, known_names
from ltxcore.spelling import meant

Table = tuple[str, ...]
"""Where a table is, without the numbers of lists: ("validation", "samples")."""

TABLES = frozenset(field.name for field in attrs.fields(RunFile) if field.type is not None and attrs.has(field.type))
"""Keys of a run file that are tables."""

OF_SAMPLES = frozenset({("validation",), ("validation", "samples")})
"""Tables of what is drawn, which have some keys in common."""


def remedy_for(name: str, keys: Mapping[str, Key], path: KeyPath) -> str:
    """What to do about a key that a table does not have. A key is suggested only where it does what is wanted.

    Args:
        name: as it was written.
        keys: of the table, by name.
        path: of the table.
    """
    here = tuple(part for part in path if isinstance(part, str))
    word = name.casefold().replace("-", "_")
    if "type" in keys and (own := [key for key in IN_CONDITIONS.get(word, ()) if key in keys]):
        return f'Did you mean "{own[0]}"?'
    own_word = IN_VALIDATION.get(word, "") if here in OF_SAMPLES else ""
    same = own_word or SAME.get(word, "")
    if same and (said := _in_this(same, keys, here) or (_in_another(same, here) if own_word else "")):
        return said
    elsewhere = {**_tables(), **dict(_nested(keys.values(), here))}
    if places := [table for table, names in elsewhere.items() if name in names and table != here]:
        return _is_of(name, places)
    if same and (said := _in_another(same, here)):
        return said
    if word in OTHERWISE:
        return OTHERWISE[word]
    if word in NOTHING:
        return f"{NOTHING_LIKE_IT} {known_names(keys)}"
    return did_you_mean(name, keys) or _typo_elsewhere(name, elsewhere, here) or known_names(keys)


def _in_this(key: str, keys: Mapping[str, Key], here: Table) -> str:
    """The key that another word stands for, where this table has it."""
    table, own = _split(key)
    fits = table == here or {table, here} <= OF_SAMPLES
    return f'Did you mean "{own}"?' if fits and own in keys else ""


def _in_another(key: str, here: Table) -> str:
    """Where the key is that another word stands for; "" where it should be in this table, and is not."""
    table, own = _split(key)
    if table == here or (not table and own in TABLES):
        return ""
    return f"Here that is {own} in [{spelled(table)}]." if table else f"Here that is {own}, above the first table."


def _split(key: str) -> tuple[Table, str]:
    *table, own = key.split(".")
    return tuple(table), own


def _is_of(name: str, tables: Sequence[Table]) -> str:
    if () in tables:
        return f"{name} is no key of a table: write it above the first one."
    return f"{name} is a key of {' and of '.join(f'[{spelled(table)}]' for table in tables)}."


def _typo_elsewhere(name: str, tables: Mapping[Table, frozenset[str]], here: Table) -> str:
    """A key of another table, where only one has it."""
    found = meant(name, {key for table, names in tables.items() if table != here for key in names})
    places = [table for table, names in tables.items() if found and found[0] in names]
    if len(found) != 1 or len(places) != 1:
        return ""
    return f'Did you mean "{found[0]}", {f"a key of [{spelled(places[0])}]" if places[0] else "above the first table"}?'


@functools.cache
def _tables() -> dict[Table, frozenset[str]]:
    """The keys of a run file by table, but for those that plugins decide."""
    keys = keys_of(RunFile)
    return {(): frozenset(key.name for key in keys), **dict(_nested(keys, ()))}


@functools.cache
def _keys(kind: Any) -> tuple[Key, ...]:
    return tuple(keys_of(kind))


def _nested(keys: Any, path: Table) -> Iterator[tuple[Table, frozenset[str]]]:
    """The tables below a table."""
    for key in keys:
        for kind in (key.kind, *get_args(key.kind)):
            if isinstance(kind, type) and attrs.has(kind):  # not so a condition, whose keys are those of its class
                inner = _keys(kind)
                yield (*path, key.name), frozenset(each.name for each in inner)
                yield from _nested(inner, (*path, key.name))
