"""Descriptions of the names that plugins add: their purpose, their keys in a run file, and their origin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from ltxcore.api.commands import columns
from ltxcore.cli.added import command_of
from ltxcore.columns import encoded_to, folder_of
from ltxcore.conditions import ConditionUse
from ltxcore.config.render import value_text
from ltxcore.config.sample_tables import sample_keys
from ltxcore.config.scalars import wanted
from ltxcore.config.tables import Key, column_keys, keys_of, objective_keys, plain, training_keys
from ltxcore.registry import Named

HEADS = {
    "strategy": "[training_strategy]",
    "objective": "[[objectives]]",
    "sigma_sampler": "[flow_matching.timestep_sampling_params]",
    "adapter": "[lora.params]",
    "optimizer": "[optimization.optimizer_params]",
    "schedule": "[optimization.scheduler_params]",
    "source": "[preprocessing.source_params]",
    "column": "[preprocessing.columns.{name}]",
    "quantizer": "[acceleration.quantization_params]",
    "exporter": "ltx export --for {name},KEY=VALUE",
    "reference_filter": "--filter {name},KEY=VALUE",
    "tracker": "[trackers.{name}]",
}
"""The place, in a run file or on the command line, where the keys of each kind of plugin stand."""

KEYS: Mapping[str, Callable[[Any], list[Key]]] = {"objective": objective_keys, "column": column_keys}
"""The functions that list all keys of a table, for the kinds of plugins whose tables have more keys than the class."""


def description(named: Named) -> str:
    """Describe everything that a user needs to know about a name before using it."""
    about = inspect.cleandoc(command_of(named).help or "") if named.kind == "command" else inspect.getdoc(named.value) or ""
    blocks = [f"{named.kind.replace('_', ' ')} {named.name}, from {named.origin}"]
    if about:
        blocks.append(about)
    if getattr(named.value, "endings", ()) and named.kind == "source":
        blocks.append(f"Reads files that end in {', '.join(named.value.endings)}")
    if named.kind == "column":
        blocks.append(f"Encoded to {encoded_to(named.value)}, in the folder {folder_of(named.name, named.value)}")
    blocks += [f"{head}\n{_indented(columns(key_rows(keys)))}" if keys else f"{head}\n  has no keys" for head, keys in key_lists(named)]
    return "\n\n".join(blocks)


def key_lists(named: Named) -> list[tuple[str, list[Key]]]:
    """Return the tables that a name has in a run file, each with its keys."""
    if named.kind == "condition":
        of = " and ".join(named.modalities)
        lists = [(f"In training, on {of}:", training_keys(named.value))]
        return lists + [(f"In a validation sample, on {name}:", sample_keys(named.value, name)) for name in named.modalities]
    if named.kind in HEADS and attrs.has(named.value):
        name = [Key("name", str, help="the strategy")] if named.kind == "strategy" else []
        keys = KEYS.get(named.kind, keys_of)(named.value)
        return [(f"{HEADS[named.kind].format(name=named.name)}:", [*name, *keys])]
    return []


def key_rows(keys: Sequence[Key]) -> list[tuple[str, ...]]:
    """Return keys as rows of a table, with a heading first: name, type, default, unit, purpose."""
    return [("KEY", "TYPE", "DEFAULT", "UNIT", "WHAT IT IS FOR"), *_inner(keys, "")]


def _inner(keys: Iterable[Key], before: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key in keys:
        rows.append(
            (
                before + key.name,
                _type(key.kind) + (", or drawn" if key.is_drawable else ""),
                _default(key),
                key.unit or "-",
                key.help or "-",
            )
        )
        table = next((kind for kind in (key.kind, *getattr(key.kind, "__args__", ())) if attrs.has(kind)), None)
        if table is not None and table is not ConditionUse:
            rows += _inner(keys_of(table), f"{before}{key.name}.")
    return rows


def _type(kind: Any) -> str:
    known = {list[ConditionUse]: "a list of conditions", list[list[ConditionUse]]: "lists of conditions"}
    return next((words for each, words in known.items() if kind == each), "") or wanted(kind)


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return "-" if key.shown is None else value_text(plain(key.shown))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
