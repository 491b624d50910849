"""Datasets as commands read, change and write them: the rows of a file or the media of a folder, and the column of each role."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.dataset.columns import bind, columns_of, is_inline
from ltxcore.dataset.exclusions import name_of, without_excluded
from ltxcore.dataset.media_folder import Kind, kind_of, medium_at
from ltxcore.dataset.sources import read_table, recaptioned
from ltxcore.errors import DataError, Problem
from ltxcore.files import relative
from ltxcore.sources import Row, Table


@attrs.frozen
class RawDataset:
    """The rows of a dataset, and the columns that have a role in the dataset.

    Attributes:
        table: the rows of the dataset.
        columns: the column of each role, such as "video"; roles that no column plays are left out.
        inline: the roles whose cells may hold numbers or lists instead of the path of a file.
        local: the Python files whose sources were considered beside the installed ones.
    """

    table: Table
    columns: Mapping[str, str]
    inline: frozenset[str] = frozenset()
    local: tuple[Path, ...] = ()

    @property
    def path(self) -> Path:
        """The dataset file, or the folder of media."""
        return self.table.path

    @property
    def folder(self) -> Path:
        """The absolute path of the folder that the dataset's paths are relative to."""
        return Path(os.path.normpath(self.table.folder.absolute()))

    @property
    def is_folder(self) -> bool:
        """Whether the dataset is a folder of media."""
        return self.table.is_folder

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the dataset, in order."""
        return self.table.rows

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems that keep files of a folder from becoming rows."""
        return self.table.unusable

    def where(self, row: Row) -> str:
        """Return the place of a row, for a message; "" for a folder, where a row's file itself names the place."""
        return "" if self.is_folder else self.table.at(row)

    def name(self, row: Row) -> str:
        """Return the path of a row's clip, or of its sound if it has no clip, as the dataset writes it; "" if the row names neither."""
        return name_of(row, self.columns)

    def role(self, row: Row) -> str:
        """Return "video" if a row is a clip or a picture, "audio" if it is only audio."""
        return "video" if "video" in self.columns and (self.columns["video"] in row.values or "audio" not in self.columns) else "audio"

    def file(self, row: Row, role: str) -> Path:
        """Return the file that a row names for a role.

        Raises:
            DataError: the row names no file for this role.
        """
        column = self.columns[role]
        cell = row.values.get(column)
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(
                f'the value of "{column}" does not name a file', where=self.where(row), remedy="Name a file, or leave the row out."
            )
        return self.folder / cell if self.is_folder else medium_at(self.folder, cell.strip())[1]

    def kind(self, row: Row) -> Kind | None:
        """Return the kind of a row's file by its ending: a clip ("video"), a picture ("image") or audio ("sound"); None if the ending is
        unknown.

        Raises:
            DataError: the row names no file.
        """
        return kind_of(self.file(row, self.role(row)).name)

    def text_file(self, row: Row) -> Path:
        """Return the path where the caption file of a folder's media file belongs, whether or not it exists."""
        return self.folder / row.caption_file

    def moved(self, row: Row, to: Path) -> dict[str, Any]:
        """Return a row's cells for a dataset file in the folder `to`; their relative paths lead to the same files as before."""
        values = dict(row.values)
        if Path(os.path.normpath(to.absolute())) != self.folder:
            for role, column in self.columns.items():
                cell = values.get(column)
                if role == "caption" or not isinstance(cell, str) or not cell.strip() or (role in self.inline and is_inline(cell.strip())):
                    continue
                if not Path(cell).is_absolute():
                    values[column] = relative(self.folder / cell.strip(), to.absolute())
        return values

    def recaptioned(self, captions: Mapping[int, str | list[str]]) -> dict[Path, bytes]:
        """Return the new content of the files that hold captions, by path; nothing is written.

        Args:
            captions: the new captions, by index of the row: a text or, for a row with a list of captions, a list.

        Raises:
            DataError: the captions are in no file that the dataset's source can change.
            PluginError: the source fails, or breaks its protocol.
        """
        return recaptioned(self.table, self.columns["caption"], captions, self.local)

    def without_excluded(self) -> tuple[RawDataset, tuple[str, ...]]:
        """Return the dataset without the rows that the user excludes, and notes about them, for commands that produce something from each
        row.

        Raises:
            DataError: the list of excluded rows cannot be read, or every row is excluded.
        """
        table = without_excluded(self.table, self.columns)
        return attrs.evolve(self, table=table), table.notes[len(self.table.notes) :]

    def without_sounds(self) -> tuple[RawDataset, tuple[str, ...]]:
        """Return the dataset with the rows that a single dataset file can hold, and notes. A file of clips cannot also hold a folder's
        audio files; if they are left out, a note says so.
        """
        rows = tuple(row for row in self.rows if self.role(row) == "video")
        if not self.is_folder or len(rows) in (0, len(self.rows)):
            return self, ()
        count = len(self.rows) - len(rows)
        there = {column for row in rows for column in row.values} | {"caption"}
        columns = {role: column for role, column in self.columns.items() if column in there}
        note = f"{count} sound{' has' if count == 1 else 's have'} no row in the output, since its rows are clips and pictures"
        return attrs.evolve(self, table=attrs.evolve(self.table, rows=rows), columns=columns), (note,)


def open_dataset(
    path: Path | str, columns: Mapping[str, str | None] | None = None, apart: Path | None = None, *, local: Iterable[Path] = ()
) -> RawDataset:
    """Open a dataset file or a folder. In a folder, clips and pictures become rows with the column "video", and audio files become rows
    with the column "audio".

    Args:
        path: the file or the folder.
        columns: the column of each role; roles that are missing or None are played by the conventional columns.
        apart: a folder inside `path` whose files do not belong to the dataset.
        local: Python files whose sources are considered beside the installed ones.

    Raises:
        DataError: the path does not exist or cannot be read, a column is missing or ambiguous, or the folder has no media.
    """
    local = tuple(local)
    table = read_table(path, local)
    if table.is_folder:
        return attrs.evolve(_of_folder(table, apart), local=local)
    known = columns_of()
    binding = bind(table, columns or {}, all_=known)
    if table.problems or binding.problems:
        raise DataError.of([*table.problems, *binding.problems])
    return RawDataset(table, binding.columns, frozenset(column.role for column in known.all if column.is_data), local)


def _of_folder(table: Table, apart: Path | None) -> RawDataset:
    rows = [row for row in table.rows if apart is None or not (table.path / row.file).absolute().is_relative_to(apart.absolute())]
    problems = [*table.unusable, *(row.lacks for row in rows if row.lacks is not None)]
    if not rows:
        if problems:
            raise DataError.of(problems)
        raise DataError("contains no clips, images or sounds", where=str(table.path), remedy="Name a folder of media, or a dataset file.")
    rows = [row for row in rows if row.lacks is None]
    present = {column for row in rows for column in row.values} | {"caption"}
    columns = {column: column for column in table.columns if column in present}
    return RawDataset(attrs.evolve(table, rows=tuple(rows), columns=tuple(columns), unusable=tuple(problems)), columns)
