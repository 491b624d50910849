"""Read an old configuration key by key. Mistakes are collected, and keys that are never asked for are reported."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import ConfigError, Problem
from ltxcore.api.config import did_you_mean, value_text
from ltxplugins.tools.convert.kinds import Kind, Wrong, is_null, plain, spoken
from ltxplugins.tools.convert.toml import Section
from ltxplugins.tools.convert.tree import Items, Table, Tree

DEFAULTED = "Not in the old file: this was the default of {}, and ltx has a different one."

SECRETS = re.compile(r"(?:.*_)?(?:api_key|token|password|secret)", re.IGNORECASE)
"""The names of keys whose values are never shown."""

UNSET: Any = object()
"""The value of a key that is absent, or that is null if null means the same as absent."""


@attrs.define
class Log:
    """The problems and remarks of a conversion.

    Attributes:
        path: the path of the old configuration, for messages.
        start: the folder where relative paths of the old configuration begin.
        folder: the folder of the run file, where relative paths of the run file begin.
        called: the name of the file in remarks.
        problems: the reasons why the configuration cannot be converted, each with its line.
        remarks: the remarks for the user.
    """

    path: str
    start: Path
    folder: Path
    called: str = "the old file"
    problems: list[tuple[int, Problem]] = attrs.field(factory=list)
    remarks: list[str] = attrs.field(factory=list)

    def problem(self, line: int, key: str, what: str, remedy: str = "") -> None:
        found = line, Problem(what, f"{self.path}:{line}: {key}", remedy)
        if found not in self.problems:  # a key that several settings depend on is read several times
            self.problems.append(found)

    def refuse(self) -> None:
        """End the conversion if something is wrong.

        Raises:
            ConfigError: something is wrong; the error lists all problems in the order of the file.
        """
        if self.problems:
            raise ConfigError.of(problem for _, problem in sorted(self.problems, key=lambda found: found[0]))

    def remark(self, section: Section, line: int, text: str) -> None:
        """Add a remark for the user, and write it into the run file as a comment."""
        said = f"line {line} of {self.called}: {text}"
        self.remarks.append(said)
        section.say(said)

    def moved(self, path: Path) -> str:
        """Return a path of the old configuration in the form that the run file needs."""
        if path.is_absolute() or str(path).startswith("~") or self.start == self.folder:
            return str(path)
        return os.path.relpath(self.start / path, self.folder)


@attrs.define
class Old:
    """A mapping in the old configuration.

    Attributes:
        table: the values of the mapping.
        key: the path of the mapping in the file; "" for the whole file.
        log: the log that collects mistakes.
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
        """Return the value of a key, or UNSET; mistakes go to the log.

        Args:
            name: the name of the key.
            kind: the kind of value that the key must have.
            null: the value that null stands for; None if null is a mistake.
            required: whether leaving out the key is a mistake.
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
        """Return the mapping under a key; None if there is no mapping."""
        self.taken.add(name)
        tree = self.table.values.get(name)
        if tree is None or is_null(tree):
            return None
        return self._mapping(tree, self.at(name))

    def several(self, name: str) -> list[Old]:
        """Return the mappings in the list under a key."""
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
        """Add a remark on every key that is not converted because it was not asked for, and on every key that is
        written twice.
        """
        for name in self.table.doubled:
            self.log.remark(section, self.line(name), f"{self.at(name)} is set twice; the last value counts.")
        for name, tree in self.untaken():
            meant = f" {remedy}" if (remedy := did_you_mean(name, {*self.taken, *known})) else ""
            self.log.remark(section, self.line(name), f"{self.at(name)}{shown(name, tree)} is not converted: {reason}.{meant}")

    def untaken(self) -> Iterator[tuple[str, Tree]]:
        yield from ((name, tree) for name, tree in self.table.values.items() if name not in self.taken)


def own_or_common(own: Old, common: Old, name: str, kind: Kind) -> Any:
    """Return the value of a key in a mapping, or else in the mapping for all of its kind; UNSET if both lack it."""
    found, shared = (each.get(name, kind, null=UNSET) for each in (own, common))
    return shared if found is UNSET else found


def shown(name: str, tree: Tree) -> str:
    """Return ` = VALUE` for the value of a key, or nothing for null; a secret is not shown."""
    if is_null(tree):
        return ""
    return " = ***" if SECRETS.fullmatch(name) else f" = {value_text(_short(plain(tree)))}"


def _short(value: Any) -> Any:
    """Convert a value to a form that TOML can store, without the secrets in it."""
    if isinstance(value, Mapping):
        return {key: "***" if SECRETS.fullmatch(key) else _short(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_short(inner) for inner in value if inner is not None]
    return value


@attrs.frozen
class Field:
    """A key that means the same in both configurations.

    Attributes:
        name: the name of the key.
        kind: the kind of value that the key must have.
        required: whether the old configuration must have it.
        null: the value that null stands for, or UNSET; None if null is a mistake.
        default: the default in ltx-trainer if it differs from ours; UNSET if both are the same.
        why: the comment on a value that stands for null.
        instead: the replacement for each value that does not exist in ltx, with the reason.
    """

    name: str
    kind: Kind
    required: bool = False
    null: Any = None
    default: Any = UNSET
    why: str = ""
    instead: Mapping[str, tuple[str, str]] = attrs.field(factory=dict)


def carry(old: Old, section: Section, fields: Iterable[Field]) -> dict[str, Any]:
    """Write the keys of a mapping that mean the same in a run file, and return the written values."""
    written: dict[str, Any] = {}
    for field in fields:
        value = old.get(field.name, field.kind, null=field.null, required=field.required)
        said = field.why if field.name in old.table.values and not old.has(field.name) else ""
        if value is UNSET and field.name not in old.table.values:
            value, said = field.default, DEFAULTED.format("ltx-trainer")
        if isinstance(value, str) and value in field.instead:
            before, (value, reason) = value, field.instead[value]
            old.log.remark(section, old.line(field.name), f'{old.at(field.name)} = "{before}" is written as "{value}": {reason}.')
        if value is not UNSET:
            written[field.name] = value
            section.set(field.name, old.log.moved(value) if isinstance(value, Path) else value, said)
    return written
