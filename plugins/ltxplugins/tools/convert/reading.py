"""A reader that takes an old configuration apart, key by key: mistakes are collected, and keys that are never asked for are reported."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import ConfigError, Problem
from ltxcore.api.config import did_you_mean, value_text
from ltxplugins.tools.convert.kinds import Kind, Wrong, is_null, plain, spoken
from ltxplugins.tools.convert.toml import Section
from ltxplugins.tools.convert.tree import Items, Scalar, Table, Tree

DEFAULTED = "Not in the old file: this was the default of ltx-trainer, and ltx has a different one."

UNSET: Any = object()
"""The value of a key that is absent, or that is null where null means the same."""


@attrs.define
class Log:
    """The problems and remarks of a conversion.

    Attributes:
        path: the path of the old configuration, for messages.
        start: the folder where its relative paths begin.
        folder: the folder of the run file, where its relative paths begin.
        problems: the reasons why it cannot be converted, each with its line.
        remarks: the remarks for the user.
    """

    path: str
    start: Path
    folder: Path
    problems: list[tuple[int, Problem]] = attrs.field(factory=list)
    remarks: list[str] = attrs.field(factory=list)

    def problem(self, line: int, key: str, what: str, remedy: str = "") -> None:
        self.problems.append((line, Problem(what, f"{self.path}:{line}: {key}", remedy)))

    def refuse(self) -> None:
        """End the conversion if something is wrong.

        Raises:
            ConfigError: all problems, in the order of the file.
        """
        if self.problems:
            raise ConfigError.of(problem for _, problem in sorted(self.problems, key=lambda found: found[0]))

    def remark(self, section: Section, line: int, text: str) -> None:
        """Note a remark for the user, and write it into the run file."""
        said = f"line {line} of the old file: {text}"
        self.remarks.append(said)
        section.say(said)

    def moved(self, path: Path) -> str:
        """Return a path of the old configuration in the form in which the run file must write it."""
        if path.is_absolute() or str(path).startswith("~") or self.start == self.folder:
            return str(path)
        return os.path.relpath(self.start / path, self.folder)


@attrs.define
class Old:
    """A mapping of the old configuration.

    Attributes:
        table: the values of the mapping.
        key: the path of the mapping in the file, "" for the whole of it.
        log: the log that takes mistakes.
        taken: the keys that have been asked for.
    """

    table: Table
    key: str
    log: Log
    taken: set[str] = attrs.field(factory=set)

    def at(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def line(self, name: str) -> int:
        return self.table.lines.get(name, self.table.line)

    def has(self, name: str) -> bool:
        """Return whether a key has a value other than null."""
        return name in self.table.values and not is_null(self.table.values[name])

    def get(self, name: str, kind: Kind, *, null: Any = None, required: bool = False) -> Any:
        """Return the value of a key, or UNSET; mistakes are noted.

        Args:
            name: the name of the key.
            kind: the kind of its values.
            null: the value that null stands for; None if null is a mistake.
            required: whether leaving it out is a mistake.
        """
        self.taken.add(name)
        tree = self.table.values.get(name)
        if tree is None:
            if required:
                self.log.problem(self.table.line, self.at(name), "is missing")
            return UNSET
        if null is not None and is_null(tree):
            return null
        try:
            return kind(tree)
        except Wrong as wrong:
            self.log.problem(wrong.line, self.at(name), wrong.what)
            return UNSET

    def inner(self, name: str) -> Old | None:
        """Return the mapping under a key; None if there is none."""
        self.taken.add(name)
        tree = self.table.values.get(name)
        if tree is None or is_null(tree):
            return None
        return self._mapping(tree, self.at(name))

    def several(self, name: str) -> list[Old]:
        """Return the mappings of a list under a key."""
        self.taken.add(name)
        tree = self.table.values.get(name)
        if tree is None or is_null(tree):
            return []
        if not isinstance(tree, Items):
            self.log.problem(self.line(name), self.at(name), f"must be a list, not {spoken(tree)}")
            return []
        found = [self._mapping(inner, f"{self.at(name)}[{index}]") for index, inner in enumerate(tree.values)]
        return [each for each in found if each is not None]

    def _mapping(self, tree: Tree, key: str) -> Old | None:
        if isinstance(tree, Table):
            return Old(tree, key, self.log)
        self.log.problem(tree.line, key, f"must be a mapping, not {spoken(tree)}")
        return None

    def finish(self, section: Section, known: Iterable[str] = (), reason: str = "ltx-trainer does not have this key either") -> None:
        """Remark on every key that was not asked for, which is not converted, and on every key that is written twice."""
        for name in self.table.doubled:
            self.log.remark(section, self.line(name), f"{self.at(name)} is written twice; the last one counts, as in ltx-trainer.")
        for name, tree in self.untaken():
            meant = f" {remedy}" if (remedy := did_you_mean(name, {*self.taken, *known})) else ""
            said = "" if isinstance(tree, Scalar) and tree.value is None else f" = {value_text(_short(plain(tree)))}"
            self.log.remark(section, self.line(name), f"{self.at(name)}{said} is not converted: {reason}.{meant}")

    def untaken(self) -> Iterator[tuple[str, Tree]]:
        yield from ((name, tree) for name, tree in self.table.values.items() if name not in self.taken)


def _short(value: Any) -> Any:
    """Convert a value to one that TOML can hold."""
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_short(inner) for inner in value if inner is not None]
    return value


@attrs.frozen
class Field:
    """A key that means the same in both configurations.

    Attributes:
        name: the name of the key.
        kind: the kind of its values.
        required: whether the old configuration must have it.
        null: the value that null stands for, or UNSET; None if null is a mistake.
        default: the default of the old configuration if ours differs; UNSET if they are the same.
        why: the comment beside a value that stands for null.
        instead: the replacement for a value that does not exist in ltx, and why.
    """

    name: str
    kind: Kind
    required: bool = False
    null: Any = None
    default: Any = UNSET
    why: str = ""
    instead: Mapping[str, tuple[str, str]] = attrs.field(factory=dict)


def carry(old: Old, section: Section, fields: Iterable[Field]) -> dict[str, Any]:
    """Write the keys of a mapping that mean the same in a run file, and return the values that were written."""
    written: dict[str, Any] = {}
    for field in fields:
        value = old.get(field.name, field.kind, null=field.null, required=field.required)
        said = field.why if field.name in old.table.values and not old.has(field.name) else ""
        if value is UNSET and field.name not in old.table.values:
            value, said = field.default, DEFAULTED
        if isinstance(value, str) and value in field.instead:
            before, (value, reason) = value, field.instead[value]
            old.log.remark(section, old.line(field.name), f'{old.at(field.name)} = "{before}" is written as "{value}": {reason}.')
        if value is not UNSET:
            written[field.name] = value
            section.set(field.name, old.log.moved(value) if isinstance(value, Path) else value, said)
    return written
