"""Everything that a command of the `ltx` program needs besides click. Provisional until 1.0."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ltxcore.addresses import address_of, is_address
from ltxcore.errors import is_out_of_memory, listed, reason_of
from ltxcore.files import fitted, making, not_written, remove_unfinished, why_no_path, write_whole
from ltxcore.memory import telling
from ltxcore.progress import Bar, bars
from ltxcore.redact import hide, leaving, redacted
from ltxcore.registry import load
from ltxcore.workers import as_done, in_order, usual_workers

if TYPE_CHECKING:
    from ltxcore.registry import Named

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "Bar",
    "FilePath",
    "FiniteRange",
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
    "plugin_option",
    "reason_of",
    "redacted",
    "remove_unfinished",
    "telling",
    "usual_workers",
    "write_whole",
]


class FiniteRange(click.FloatRange):
    """A click type for numbers in a range, which also refuses infinity and NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


class FilePath(click.Path):
    """A click type for paths, which reports a path that no file can have as a mistake on the command line, and an address too.

    Args:
        reads_sets: whether an address of an encoded set is taken. It becomes the folder that stands for the set in the user's cache.
        options: the options of `click.Path`.
    """

    def __init__(self, *, reads_sets: bool = False, **options: Any) -> None:
        super().__init__(path_type=Path, **options)
        self.reads_sets = reads_sets

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            if self.reads_sets:
                from ltxcore.encoded.mirror import opened

                return opened(address_of(value))
            self.fail(f"{redacted(value)} is an address, but this command takes only a path of this machine.", param, ctx)
        fault = why_no_path(Path(value))
        if fault:
            self.fail(f"{fault}.", param, ctx)
        return super().convert(value, param, ctx)


def plugin_option(adds: str) -> Callable[[F], F]:
    """Return a decorator that adds the option `--plugin FILE` to a command, which receives the Python files as `plugins`.

    Args:
        adds: what these files add for the command to use, such as "sources"; shown in the help.
    """
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        type=FilePath(exists=True, dir_okay=False),
        metavar="FILE",
        help=f"A Python file with your own {adds}; may be repeated.",
    )


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Return rows of text with their cells aligned in columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts)


def find_plugin(kind: str, name: str, *, local: Iterable[Path] = (), where: str = "", keys: bool = False) -> Named:
    """Return the object that a plugin registered under a name, such as the reference filter "canny": the object as `value`, and where it
    comes from as `origin`.

    Args:
        kind: the kind of plugin, such as "reference_filter".
        name: the name under which the plugin registered the object.
        local: Python files that are loaded as plugins too.
        where: the place where the user gives the name, for messages.
        keys: whether keys may follow the name, as in "blur,sigma=8". The value is then an object with these keys if a class is registered.

    Raises:
        ConfigError: the name is not registered, in which case the error suggests the most similar name; or the keys are wrong.
        PluginError: the plugin that would register the name is broken or switched off.
    """
    if keys:
        from ltxcore.config.plugin_option import plugin_of

        return plugin_of(kind, name, where, load(local=local))
    return load(local=local).get(kind, name, where=where)
