"""Functions that write rows to dataset files in CSV, JSON or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ltxcore.errors import ConfigError, DataError
from ltxcore.files import write_whole


def rows_writer(path: Path) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    """Return a function that writes rows, each a mapping from column to cell, to a dataset file at `path`. Each call replaces the whole
    file.

    Raises:
        ConfigError: dataset files with this ending cannot be written; or, from the returned function, they cannot hold the rows.
        DataError: the file cannot be written; the returned function raises this.
    """
    as_text = WRITTEN.get(path.suffix.lower())
    if as_text is None:
        raise ConfigError(f'a dataset cannot be written as a "{path.suffix}" file', where=str(path), remedy="Write .jsonl, .json or .csv.")

    def write(rows: Sequence[Mapping[str, Any]]) -> None:
        listing = next((column for row in rows for column, cell in row.items() if _is_texts(cell)), None)
        if as_text is _csv_text and listing is not None:
            what = f'the column "{listing}" holds lists of texts, which a CSV file cannot hold'
            raise ConfigError(what, where=str(path), remedy="Write .jsonl or .json.")
        try:
            write_whole(path, as_text(rows).encode())
        except OSError as error:
            raise DataError(
                f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another file."
            ) from error

    return write


def _is_texts(cell: Any) -> bool:
    return isinstance(cell, list) and any(isinstance(each, str) for each in cell)


def _csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _jsonl_text(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json_text(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, indent=2) + "\n"


WRITTEN: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], str]] = MappingProxyType(
    {".jsonl": _jsonl_text, ".json": _json_text, ".csv": _csv_text}
)
"""The functions that turn rows into the text of a dataset file, by the file's ending."""
