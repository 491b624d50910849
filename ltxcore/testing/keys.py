"""Checks of a plugin's class, and of its fields as the keys of a run file, for plugins of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ltxcore.config.reading import Unreadable
from ltxcore.config.structurer import Structurer
from ltxcore.config.tables import Key, keys_of, plain
from ltxcore.errors import PluginError
from ltxcore.registry import Named, Origin, Registry, check


def faults_of_class(kind: str, one: Any, keys: Callable[[Any], Sequence[Key]] = keys_of) -> Iterator[str]:
    """Report what the registry finds wrong with the class of an object, keys without a type, and a table that changes
    when it is written and read again.
    """
    cls = type(one)
    try:
        check(Named(cls.__name__, kind, cls, Origin("", "", "")))
        found = keys(cls)
    except PluginError as error:
        yield str(error).removeprefix(f'the {kind.replace("_", " ")} "{cls.__name__}" ')
        return
    for key in found:
        if key.kind is Any:
            yield f'its field "{key.name}" has no type, so a run file could write anything there'
    yield from _faults_of_table(one)


def _faults_of_table(one: Any) -> Iterator[str]:
    """Report a resolved run file that lacks a parameter, or that does not load again to the same values."""

    def read(table: Any) -> Any:
        structurer = Structurer(Registry({}), Path.cwd())
        try:
            return structurer.table(table, type(one))
        except Unreadable:
            mistake = structurer.reading.mistakes[0]
            raise ValueError(f'its field "{mistake.path[-1]}" {mistake.what}' if mistake.path else mistake.what) from None

    try:
        once = read(plain(one))
        if read(plain(once)) != once:
            yield "written to a run file and read again, it is another: it must compare by its parameters"
    except ValueError as error:
        yield f"written to a run file, it cannot be read again: {error}"
