"""Settings of other trainers, by name: the key of a run file that each becomes, or the reason why it has none.

A trainer's settings stand in one mapping of rules, so that what is kept and what is not can be seen at a glance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxplugins.tools.convert.kinds import Kind, is_null, plain
from ltxplugins.tools.convert.reading import DEFAULTED, UNSET, Log, Old, shown
from ltxplugins.tools.convert.toml import RunText, Section
from ltxplugins.tools.convert.tree import Table

TABLES = (
    "model",
    "lora",
    "training_strategy",
    "training_strategy.video",
    "training_strategy.audio",
    "optimization",
    "ema",
    "acceleration",
    "data",
    "preprocessing",
    "validation",
    "checkpoints",
    "flow_matching",
    "hub",
    "wandb",
)
"""The tables of a run file in the order in which they are written."""

OFF = (False, 0, "", "none", ())
"""Values that switch a setting off in most trainers."""

ANY: tuple[Any, ...] = (object(),)
"""Stands for every value of a setting that never changes what is trained."""


@attrs.frozen
class Kept:
    """A setting that a run file has too.

    Attributes:
        key: the key of the run file, such as "optimization.steps".
        kind: the kind of its values; None if it is written together with others.
        default: the other trainer's default, if it matters and ltx has a different one.
    """

    key: str
    kind: Kind | None = None
    default: Any = UNSET


@attrs.frozen
class Left:
    """A setting that a run file does not have.

    Attributes:
        why: the reason, and what to do instead.
        idle: values with which the setting does nothing, or only what ltx does anyway; null always counts as such a value.
    """

    why: str
    idle: tuple[Any, ...] = OFF


Rules = Mapping[str, Kept | Left]
"""What becomes of each setting, by its path in the other trainer's file, without the numbers of lists."""


@attrs.define
class Settings:
    """A run file in the making, and what is known of the settings that it is made from.

    Attributes:
        trainer: the name of the other trainer.
        rules: for each of the trainer's settings, the key that it becomes, or the reason why it has none.
        log: the log that takes mistakes and remarks.
        run: the run file.
        idle: the settings of the file that have no effect here.
        mappings: the mappings of the file that have been read.
    """

    trainer: str
    rules: Rules
    log: Log
    run: RunText = attrs.field(factory=RunText)
    idle: list[str] = attrs.field(factory=list)
    mappings: list[Old] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        for name in TABLES:
            self.run.table(name)

    def section(self, key: str) -> Section:
        """Return the run file's table to which a key belongs."""
        table, _, _ = key.rpartition(".")
        return self.run.table(table) if table else self.run.head

    def put(self, key: str, value: Any, comment: str = "") -> None:
        """Write a key of the run file; a path is written in the form that the run file needs."""
        self.section(key).set(key.rpartition(".")[2], self.log.moved(value) if isinstance(value, Path) else value, comment)

    def put_default(self, key: str, value: Any) -> None:
        """Write a default of the other trainer."""
        self.put(key, value, DEFAULTED.format(self.trainer))

    def note(self, old: Old, name: str, text: str, key: str = "") -> None:
        """Remark on a setting; the remark stands in the table of a key of the run file, or at the top."""
        old.log.remark(self.section(key), old.line(name), f"{old.at(name)}{self._shown(old, name)} {text}")

    def _shown(self, old: Old, name: str) -> str:
        return shown(name, old.table.values[name]) if name in old.table.values else ""

    def inner(self, old: Old, name: str) -> Old:
        """Return the mapping under a key, which is empty if there is none."""
        return old.inner(name) or Old(Table(old.line(name), {}, {}), old.at(name), old.log)

    def read(self, old: Old, path: str) -> None:
        """Write the settings of a mapping that need nothing else, and remark on those that are not kept.

        Args:
            old: the mapping.
            path: its path in the rules; "" for the top.
        """
        self.mappings.append(old)
        for rule_path, rule in self.rules.items():
            before, _, name = rule_path.rpartition(".")
            if before == path:
                self._apply(old, name, rule)

    def _apply(self, old: Old, name: str, rule: Kept | Left) -> None:
        if isinstance(rule, Left):
            if name in old.table.values:
                old.taken.add(name)
                self._leave(old, name, rule)
        elif rule.kind is not None:
            value = old.get(name, rule.kind, null=UNSET)
            if value is not UNSET:
                self.put(rule.key, value)
            elif rule.default is not UNSET and not old.has(name):
                self.put_default(rule.key, rule.default)

    def _leave(self, old: Old, name: str, rule: Left) -> None:
        tree = old.table.values[name]
        value = plain(tree)
        empty = isinstance(value, (dict, list)) and not value
        if is_null(tree) or empty or rule.idle is ANY or value in rule.idle:
            self.idle.append(old.at(name))
        else:
            self.note(old, name, f"is not kept: {rule.why}.")

    def without_effect(self, old: Old, *names: str) -> None:
        """Record those settings in the file that have no effect because the setting to which they belong is off."""
        old.taken.update(names)
        self.idle += [old.at(name) for name in names if name in old.table.values]

    def finish(self) -> None:
        """Remark on every setting that nothing has asked for, and name those that have no effect here."""
        for old in self.mappings:
            old.finish(self.run.head, reason=f"ltx knows no such setting of {self.trainer}")
        if self.idle:
            self.run.head.say(f"Not needed here, or switched off: {', '.join(self.idle)}.")
