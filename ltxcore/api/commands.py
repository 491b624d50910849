"""What a command of the `ltx` program needs beside click. Provisional until 1.0."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ltxcore.files import making, why_no_path, write_whole
from ltxcore.redact import hide, leaving, redacted

__all__ = ["FilePath", "columns", "hide", "leaving", "making", "redacted", "write_whole"]


class FilePath(click.Path):
    """A path as click has it; one that no file can have is a mistake of the command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        fault = why_no_path(Path(value))
        if fault:
            self.fail(f"{fault}.", param, ctx)
        return super().convert(value, param, ctx)


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Rows of text with their cells one below the other."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts)
