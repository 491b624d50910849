"""`ltx plugins`: what is there to name in a run file, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ltxcore.protocols import MODALITIES
from ltxcore.registry import HOOKS, Broken, Named, Registry, load


@click.group()
def plugins() -> None:
    """List and describe plugins."""


@plugins.command("list")
@click.option("--kind", type=click.Choice(list(HOOKS)), help="Only what is of this kind.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_(kind: str | None, as_json: bool) -> None:
    """Everything that a run file may name: kind, name, modalities and origin; then plugins that are broken, and why."""
    registry = load()
    names = [named for of in HOOKS if kind in (None, of) for named in sorted(registry.of_kind(of).values(), key=lambda named: named.name)]
    click.echo(json.dumps(_machine(names, registry), indent=2) if as_json else _text(names, registry))


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
    }


def _text(names: Sequence[Named], registry: Registry) -> str:
    rows = [(named.kind, named.name, ", ".join(modalities(named)) or "-", str(named.origin)) for named in names]
    blocks = [columns([("KIND", "NAME", "MODALITIES", "ORIGIN"), *rows]) if rows else "There is none."]
    if registry.broken:
        blocks.append("\n".join(["Broken:", *(f"  {_reason(broken)}" for broken in registry.broken)]))
    return "\n\n".join(blocks)


def _reason(broken: Broken) -> str:
    return f"{broken.origin}: {broken.reason}"


def modalities(named: Named) -> list[str]:
    """The modalities that a condition works on; none for what is no condition."""
    return [name for name in MODALITIES if named.kind == "condition" and name in named.value.modalities]


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows with their cells one below the other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
