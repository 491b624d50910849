"""`ltx plugins`, which shows what can be named in a run file: its purpose, its keys, and where it comes from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from ltxcore.api.commands import FilePath, columns
from ltxcore.cli.added import command_of
from ltxcore.cli.plugins_new import new
from ltxcore.conditions import ConditionUse
from ltxcore.config.render import value_text
from ltxcore.config.sample_tables import sample_keys
from ltxcore.config.scalars import wanted
from ltxcore.config.tables import Key, keys_of, plain, training_keys
from ltxcore.errors import ConfigError, PluginError, suggestion
from ltxcore.protocols import MODALITIES
from ltxcore.registry import DISABLE, HOOKS, Named, Registry, load

HEADS = {
    "strategy": "[training_strategy]",
    "sigma_sampler": "[flow_matching.timestep_sampling_params]",
    "optimizer": "[optimization.optimizer_params]",
    "schedule": "[optimization.scheduler_params]",
    "tracker": "[trackers.{name}]",
}
"""Where the keys of each kind stand in a run file."""


@click.group()
def plugins() -> None:
    """List and describe plugins, or start a new one."""


plugins.add_command(new)


@plugins.command("list")
@click.option("--kind", type=click.Choice(list(HOOKS)), help="List only this kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_(kind: str | None, as_json: bool) -> None:
    """List everything that a run file may name, with kind, modalities and origin; then broken plugins, and why they are broken."""
    registry = load()
    names = [named for of in HOOKS if kind in (None, of) for named in sorted(registry.of_kind(of).values(), key=lambda named: named.name)]
    click.echo(json.dumps(_machine(names, registry), indent=2) if as_json else _text(names, registry))


@plugins.command("show")
@click.argument("name")
@click.option(
    "--plugin",
    "files",
    multiple=True,
    type=FilePath(exists=True, dir_okay=False),
    help="A local plugin file to include.",
)
def show(name: str, files: tuple[Path, ...]) -> None:
    """Show what NAME does, its keys in a run file with types, defaults and units, and where it comes from."""
    registry = load(local=[file.absolute() for file in files])
    found = [registry.of_kind(kind)[name] for kind in HOOKS if name in registry.of_kind(kind)]
    if not found:
        broken = [broken for broken in registry.broken if name == broken.origin.plugin or name in {claimed for _, claimed in broken.claims}]
        if broken:
            raise PluginError(f'"{name}" comes from a broken plugin, {broken[0].origin}: {broken[0].reason}', remedy="Fix or uninstall it.")
        raise ConfigError(
            f'no plugin names anything "{name}"', remedy=suggestion(name, {known for kind in HOOKS for known in registry.of_kind(kind)})
        )
    click.echo("\n\n".join(description(named) for named in found))


def _machine(names: Iterable[Named], registry: Registry) -> dict[str, Any]:
    return {
        "plugins": [
            {
                "kind": named.kind,
                "name": named.name,
                "modalities": modalities(named),
                "distribution": named.origin.distribution,
                "version": named.origin.version,
                "plugin": named.origin.plugin,
            }
            for named in names
        ],
        "broken": [
            {
                "plugin": broken.origin.plugin,
                "distribution": broken.origin.distribution,
                "version": broken.origin.version,
                "reason": broken.reason,
            }
            for broken in registry.broken
        ],
        "disabled": [origin.plugin for origin in registry.disabled],
    }


def _text(names: Sequence[Named], registry: Registry) -> str:
    rows = [(named.kind, named.name, ", ".join(modalities(named)) or "-", str(named.origin)) for named in names]
    blocks = [columns([("KIND", "NAME", "MODALITIES", "ORIGIN"), *rows]) if rows else "There is none."]
    if registry.broken:
        blocks.append("\n".join(["Broken:", *(f"  {broken.origin}: {broken.reason}" for broken in registry.broken)]))
    if registry.disabled:
        blocks.append("\n".join([f"Switched off by {DISABLE}:", *(f"  {origin}" for origin in registry.disabled)]))
    return "\n\n".join(blocks)


def modalities(named: Named) -> list[str]:
    """Return the modalities that a condition works on; none for anything that is no condition."""
    return [name for name in MODALITIES if named.kind == "condition" and name in named.value.modalities]


def description(named: Named) -> str:
    """Describe everything that one needs to know about a name before using it."""
    about = inspect.cleandoc(command_of(named).help or "") if named.kind == "command" else inspect.getdoc(named.value) or ""
    blocks = [f"{named.kind.replace('_', ' ')} {named.name}, from {named.origin}"]
    if about:
        blocks.append(about)
    blocks += [f"{head}\n{_indented(columns(key_rows(keys)))}" if keys else f"{head}\n  has no keys" for head, keys in key_lists(named)]
    return "\n\n".join(blocks)


def key_lists(named: Named) -> list[tuple[str, list[Key]]]:
    """Return the tables that a name has in a run file, each with its keys."""
    if named.kind == "condition":
        of = " and ".join(modalities(named))
        lists = [(f"In training, a condition of {of}:", training_keys(named.value))]
        return lists + [(f"In a validation sample, on {name}:", sample_keys(named.value, name)) for name in modalities(named)]
    if named.kind in HEADS and attrs.has(named.value):
        name = [Key("name", str, help="the strategy")] if named.kind == "strategy" else []
        return [(f"{HEADS[named.kind].format(name=named.name)}:", [*name, *keys_of(named.value)])]
    return []


def key_rows(keys: Sequence[Key]) -> list[tuple[str, ...]]:
    """Return keys as rows of a table, a heading first: name, type, default, unit, purpose."""
    return [("KEY", "TYPE", "DEFAULT", "UNIT", "WHAT IT IS FOR"), *_inner(keys, "")]


def _inner(keys: Iterable[Key], before: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key in keys:
        rows.append((before + key.name, _type(key.kind), _default(key), key.unit or "-", key.help or "-"))
        table = next((kind for kind in (key.kind, *getattr(key.kind, "__args__", ())) if attrs.has(kind)), None)
        if table is not None and table is not ConditionUse:
            rows += _inner(keys_of(table), f"{before}{key.name}.")
    return rows


def _type(kind: Any) -> str:
    return "a list of conditions" if kind == list[ConditionUse] else wanted(kind)


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return "-" if key.shown is None else value_text(plain(key.shown))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
