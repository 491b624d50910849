"""`ltx plugins`, which shows the names that a run file can use: the purpose, keys and origin of each name."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from ltxcore.api.commands import columns, plugin_option
from ltxcore.cli.plugins_new import new
from ltxcore.errors import ConfigError, PluginError, did_you_mean
from ltxcore.registry import DISABLE, HOOKS, Named, Origin, Registry, load


@click.group()
def plugins() -> None:
    """List and describe plugins, or start a new one."""


plugins.add_command(new)


@plugins.command("list")
@click.option("--kind", type=click.Choice(list(HOOKS)), help="List only this kind.")
@plugin_option("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_(kind: str | None, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List every name that a run file can use, with its kind, modalities and origin. Broken plugins are listed last, with the reasons."""
    registry = load(local=[file.absolute() for file in plugins])
    names = [named for of in HOOKS if kind in (None, of) for named in sorted(registry.of_kind(of).values(), key=lambda named: named.name)]
    click.echo(json.dumps(_machine(names, registry), indent=2) if as_json else _text(names, registry))


@plugins.command("show")
@click.argument("name")
@plugin_option("plugins")
def show(name: str, plugins: tuple[Path, ...]) -> None:
    """Show what NAME does, its keys in a run file with types, defaults and units, and where it comes from."""
    from ltxcore.cli.describe import description  # imports the reader of run files, which `ltx plugins list` does not need

    local = [file.absolute() for file in plugins]
    registry = load(local=local)
    if ":" in name:
        found = [_of_package(name)]
    else:
        found = [registry.of_kind(kind)[name] for kind in HOOKS if name in registry.of_kind(kind)]
    if not found:
        broken = [
            broken
            for broken in registry.broken
            if name == broken.origin.plugin
            or name in {claimed for _, claimed in broken.claims}
            or (broken.origin.plugin in map(str, local) and not broken.claims)
        ]
        if broken:
            raise PluginError(
                f'"{name}" comes from a broken plugin, {broken[0].origin}: {broken[0].reason}', remedy="Fix or uninstall the plugin."
            )
        known = {known for kind in HOOKS for known in registry.of_kind(kind)}
        here = f"`ltx plugins list` shows all names. This ltx finds the packages that are installed for {sys.executable}."
        raise ConfigError(f'no plugin registers anything as "{name}"', remedy=did_you_mean(name, known) or here)
    click.echo("\n\n".join(description(named) for named in found))


def _of_package(target: str) -> Named:
    """Return an optimizer of an installed package in the same form as one that a plugin adds."""
    from ltxcore.config.packages import optimizer_of

    package = target.partition(":")[0].partition(".")[0]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # its distribution has another name
        version = ""
    return Named(target, "optimizer", optimizer_of(target, Path.cwd()), Origin(target, package, version))


def _machine(names: Iterable[Named], registry: Registry) -> dict[str, Any]:
    return {
        "plugins": [
            {
                "kind": named.kind,
                "name": named.name,
                "modalities": named.modalities,
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
    rows = [(named.kind, named.name, ", ".join(named.modalities) or "-", str(named.origin)) for named in names]
    blocks = [columns([("KIND", "NAME", "MODALITIES", "ORIGIN"), *rows]) if rows else "There is none."]
    if registry.broken:
        blocks.append("\n".join(["Broken:", *(f"  {broken.origin}: {broken.reason}" for broken in registry.broken)]))
    if registry.disabled:
        blocks.append("\n".join([f"Switched off by {DISABLE}:", *(f"  {origin}" for origin in registry.disabled)]))
    return "\n\n".join(blocks)
