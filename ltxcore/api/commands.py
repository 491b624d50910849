"""Everything that a command of the `ltx` program needs besides click. Provisional until 1.0."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ltxcore.errors import is_out_of_memory, listed
from ltxcore.files import fitted, making, not_written, remove_unfinished, why_no_path, write_whole
from ltxcore.memory import telling
from ltxcore.progress import Bar, bars
from ltxcore.redact import hide, leaving, redacted
from ltxcore.registry import load
from ltxcore.workers import as_done, in_order, usual_workers

if TYPE_CHECKING:
    from ltxcore.registry import Named

__all__ = [
    "Bar",
    "FilePath",
    "as_done",
    "bars",
    "columns",
    "find_plugin",
    "fitted",
    "hide",
    "in_order",
    "is_out_of_memory",
    "leaving",
    "listed",
    "making",
    "not_written",
    "redacted",
    "remove_unfinished",
    "telling",
    "usual_workers",
    "write_whole",
]


class FilePath(click.Path):
    """A click path type; a path that no file can have is reported as a mistake on the command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        fault = why_no_path(Path(value))
        if fault:
            self.fail(f"{fault}.", param, ctx)
        return super().convert(value, param, ctx)


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Align the cells of rows of text in columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts)


def find_plugin(kind: str, name: str, *, local: Iterable[Path] = (), where: str = "") -> Named:
    """Find what a plugin registered under a name, such as the reference filter "canny": its `value` and its `origin`.

    Args:
        kind: the kind of plugin, such as "reference_filter".
        name: the name that it is registered under.
        local: Python files to load as plugins too.
        where: the place where the user gives the name, for messages.

    Raises:
        ConfigError: there is no such name; the error suggests the nearest one.
        PluginError: the plugin that would register it is broken or switched off.
    """
    return load(local=local).get(kind, name, where=where)
