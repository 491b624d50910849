"""Datasets as they are worked on and written again: a file of rows, or a folder of clips."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.errors import ConfigError, DataError
from ltxcore.files import write_whole
from ltxcore.preprocess.columns import ALIASES, bind
from ltxcore.preprocess.table import read_table

CLIPS = frozenset((".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".gif"))
IMAGES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp"))
"""Endings of the files in a folder that are taken for clips and images."""


@attrs.frozen
class Row:
    """One row: where it is, for messages, and its cells by column."""

    where: str
    values: Mapping[str, Any]


@attrs.frozen
class Listed:
    """The rows of a dataset.

    Attributes:
        path: the dataset file, or the folder of clips.
        folder: that paths in it are relative to.
        columns: by role, such as "video".
        rows: in order.
    """

    path: Path
    folder: Path
    columns: Mapping[str, str]
    rows: tuple[Row, ...]

    def file(self, row: Row, role: str) -> Path:
        """The file that a row names for a role.

        Raises:
            DataError: it names none.
        """
        column = self.columns[role]
        cell = row.values.get(column)
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(f'its "{column}" names no file', where=row.where, remedy="Name a file, or leave the row out.")
        return Path(os.path.normpath(self.folder / cell.strip()))

    def moved(self, row: Row, to: Path) -> dict[str, Any]:
        """The cells of a row for a dataset file in the folder `to`: its relative paths lead where they did."""
        values = dict(row.values)
        if Path(os.path.normpath(to.absolute())) != self.folder:
            for role, column in self.columns.items():
                cell = values.get(column)
                if role != "caption" and isinstance(cell, str) and cell.strip() and not Path(cell).is_absolute():
                    values[column] = Path(os.path.relpath(self.folder / cell.strip(), to.absolute())).as_posix()
        return values


def read_listed(path: Path, chosen: Mapping[str, str | None], apart: Path | None = None) -> Listed:
    """A dataset file, or a folder whose clips and images are the rows of a dataset with the column "video".

    Args:
        path: of the file or the folder.
        chosen: by role, the column that an option names.
        apart: a folder whose files are none of the dataset's.

    Raises:
        DataError: there is no such file, it cannot be read, a column is missing or in doubt; or a folder without clips.
    """
    if path.is_dir():
        folder = Path(os.path.normpath(path.absolute()))
        clips = [clip for clip in clips_in(path) if apart is None or not clip.absolute().is_relative_to(apart.absolute())]
        if not clips:
            raise DataError("has no clips and no images in it", where=str(path), remedy="Name a folder of clips, or a dataset file.")
        return Listed(path, folder, {"video": "video"}, tuple(Row("", {"video": clip.relative_to(path).as_posix()}) for clip in clips))
    table = read_table(path)
    binding = bind(table, chosen)
    if table.problems or binding.problems:
        raise DataError.of([*table.problems, *binding.problems])
    rows = tuple(Row(table.at(row.line), row.values) for row in table.rows)
    return Listed(path, Path(os.path.normpath(path.absolute().parent)), binding.columns, rows)


def clips_in(folder: Path) -> Iterator[Path]:
    """The clips and images under a folder, sorted, without those in hidden folders."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in CLIPS | IMAGES and not hidden and path.is_file():
            yield path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a dataset file in the format of its ending.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        write_whole(path, _WRITERS[path.suffix.lower()](rows).encode())
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Make room, or name another file.") from error


def check_format(path: Path) -> None:
    """Whether datasets are written with this ending.

    Raises:
        ConfigError: they are not.
    """
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(f'datasets are not written as "{path.suffix}" files', where=str(path), remedy="Write .jsonl, .json or .csv.")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, indent=2) + "\n"


_WRITERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], str]] = MappingProxyType({".jsonl": _jsonl, ".json": _json, ".csv": _csv})

NO_CHOICE: Mapping[str, str | None] = MappingProxyType(dict.fromkeys(ALIASES))
"""All columns as their names have it."""
