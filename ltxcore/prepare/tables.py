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

from ltxcore.dataset.columns import ALIASES, bind
from ltxcore.dataset.folder import Found, media_under, read_caption, stem_of
from ltxcore.dataset.table import medium_at, read_table
from ltxcore.errors import ConfigError, DataError, Problem
from ltxcore.files import write_whole


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
        problems: of a folder, files that cannot be taken.
        texts: of a folder, the text file of each medium that has one, by the medium's path under the folder.
    """

    path: Path
    folder: Path
    columns: Mapping[str, str]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    texts: Mapping[str, str] = attrs.field(factory=dict)

    def role(self, row: Row) -> str:
        """Whether a row is a clip or a picture ("video"), or a sound ("audio")."""
        return "video" if "video" in self.columns and (self.columns["video"] in row.values or "audio" not in self.columns) else "audio"

    def without_sounds(self) -> tuple[Listed, tuple[str, ...]]:
        """The rows that a dataset file can have beside each other, and a note about the sounds of a folder of clips, which it cannot."""
        rows = tuple(row for row in self.rows if self.role(row) == "video")
        if not self.path.is_dir() or len(rows) in (0, len(self.rows)):
            return self, ()
        count = len(self.rows) - len(rows)
        columns = {role: column for role, column in self.columns.items() if role != "audio"}
        note = f"{count} sound{' has' if count == 1 else 's have'} no row in the output, since its rows are clips and pictures"
        return attrs.evolve(self, rows=rows, columns=columns), (note,)

    def file(self, row: Row, role: str) -> Path:
        """The file that a row names for a role.

        Raises:
            DataError: it names none.
        """
        column = self.columns[role]
        cell = row.values.get(column)
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(f'its "{column}" names no file', where=row.where, remedy="Name a file, or leave the row out.")
        return self.folder / cell if self.path.is_dir() else medium_at(self.folder, cell.strip())[1]

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
    """A dataset file, or a folder whose clips and pictures are rows with the column "video", its sounds rows with "audio".

    Args:
        path: of the file or the folder.
        chosen: by role, the column that an option names.
        apart: a folder whose files are none of the dataset's.

    Raises:
        DataError: there is no such file, it cannot be read, a column is missing or in doubt; or a folder without media.
    """
    if path.is_dir():
        return _of_folder(path, apart)
    table = read_table(path)
    binding = bind(table, chosen)
    if table.problems or binding.problems:
        raise DataError.of([*table.problems, *binding.problems])
    rows = tuple(Row(table.at(row), row.values) for row in table.rows)
    return Listed(path, Path(os.path.normpath(path.absolute().parent)), binding.columns, rows)


def _of_folder(path: Path, apart: Path | None) -> Listed:
    found = media_under(path)
    names = [name for name in found.media if apart is None or not (path / name).absolute().is_relative_to(apart.absolute())]
    if not names:
        if found.unusable:
            raise DataError.of(found.unusable)
        raise DataError("has no clips, pictures or sounds in it", where=str(path), remedy="Name a folder of media, or a dataset file.")
    texts = {name: found.texts[stem_of(name)][0] for name in names if stem_of(name) in found.texts}
    rows, problems = [], list(found.unusable)
    for name in names:
        caption = read_caption(path / texts[name]) if name in texts else ""
        if isinstance(caption, Problem):
            problems.append(caption)
        else:
            column = "audio" if found.media[name] == "sound" else "video"
            rows.append(Row("", {column: name, **({"caption": caption} if caption else {})}))
    columns = {column: column for column in ("video", "audio") if any(column in row.values for row in rows)}
    return Listed(path, Path(os.path.normpath(path.absolute())), {**columns, "caption": "caption"}, tuple(rows), tuple(problems), texts)


def films_in(folder: Path, apart: Path) -> Iterator[Path]:
    """The clips under a folder, but those under `apart`.

    Raises:
        DataError: the folder cannot be read, or a clip in it cannot be taken.
    """
    found: Found = media_under(folder)
    if found.unusable:
        raise DataError.of(found.unusable)
    for name, kind in found.media.items():
        if kind == "video" and not (folder / name).absolute().is_relative_to(apart.absolute()):
            yield folder / name


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
