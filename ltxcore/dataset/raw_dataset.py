"""Datasets as commands read, change and write them: a file of rows or a folder of media, and the column of each role."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.dataset.columns import bind
from ltxcore.dataset.media_folder import Kind, kind_of, medium_at
from ltxcore.dataset.sources import read_table
from ltxcore.errors import DataError, Problem
from ltxcore.files import relative
from ltxcore.sources import Row, Table


@attrs.frozen
class RawDataset:
    """The rows of a dataset, and the columns that play a role in them.

    Attributes:
        table: the rows of the dataset.
        columns: the column of each role, such as "video"; a role that no column plays is not there.
    """

    table: Table
    columns: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The dataset file, or the folder of media."""
        return self.table.path

    @property
    def folder(self) -> Path:
        """The absolute folder that the dataset's paths are relative to."""
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
        """The problems with files of a folder that do not become rows because of them."""
        return self.table.unusable

    def where(self, row: Row) -> str:
        """Return the place of a row, for a message; "" for a folder, whose rows are files that name the place themselves."""
        return "" if self.is_folder else self.table.at(row)

    def role(self, row: Row) -> str:
        """Return "video" if a row is a clip or a picture, "audio" if it is audio alone."""
        return "video" if "video" in self.columns and (self.columns["video"] in row.values or "audio" not in self.columns) else "audio"

    def file(self, row: Row, role: str) -> Path:
        """Return the file that a row names for a role.

        Raises:
            DataError: it names none.
        """
        column = self.columns[role]
        cell = row.values.get(column)
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(f'its "{column}" names no file', where=self.where(row), remedy="Name a file, or leave the row out.")
        return self.folder / cell if self.is_folder else medium_at(self.folder, cell.strip())[1]

    def kind(self, row: Row) -> Kind | None:
        """Return the kind of a row's file by its ending: a clip ("video"), a picture ("image") or audio ("sound"); None
        if the ending is not known.

        Raises:
            DataError: it names no file.
        """
        return kind_of(self.file(row, self.role(row)).name)

    def text_file(self, row: Row) -> Path:
        """Return the path of the caption file of a folder's media file, whether it exists or not."""
        return self.folder / row.caption_file

    def moved(self, row: Row, to: Path) -> dict[str, Any]:
        """Return the cells of a row for a dataset file in the folder `to`, with relative paths that lead to the same files."""
        values = dict(row.values)
        if Path(os.path.normpath(to.absolute())) != self.folder:
            for role, column in self.columns.items():
                cell = values.get(column)
                if role != "caption" and isinstance(cell, str) and cell.strip() and not Path(cell).is_absolute():
                    values[column] = relative(self.folder / cell.strip(), to.absolute())
        return values

    def without_sounds(self) -> tuple[RawDataset, tuple[str, ...]]:
        """Return the dataset with the rows that one dataset file can hold. It cannot hold the audio files of a folder
        of clips, and a note says so.
        """
        rows = tuple(row for row in self.rows if self.role(row) == "video")
        if not self.is_folder or len(rows) in (0, len(self.rows)):
            return self, ()
        count = len(self.rows) - len(rows)
        there = {column for row in rows for column in row.values} | {"caption"}
        columns = {role: column for role, column in self.columns.items() if column in there}
        note = f"{count} sound{' has' if count == 1 else 's have'} no row in the output, since its rows are clips and pictures"
        return attrs.evolve(self, table=attrs.evolve(self.table, rows=rows), columns=columns), (note,)


def open_dataset(path: Path, columns: Mapping[str, str | None] | None = None, apart: Path | None = None) -> RawDataset:
    """Open a dataset file or a folder; in a folder, clips and pictures become rows with the column "video", and audio
    files become rows with "audio".

    Args:
        path: the file or the folder.
        columns: the column of each role; roles that are missing or None are played by the conventional columns.
        apart: a folder whose files do not belong to the dataset.

    Raises:
        DataError: there is no such file, it cannot be read, a column is missing or in doubt, or the folder has no
            media.
    """
    table = read_table(path)
    if table.is_folder:
        return _of_folder(table, apart)
    binding = bind(table, columns or {})
    if table.problems or binding.problems:
        raise DataError.of([*table.problems, *binding.problems])
    return RawDataset(table, binding.columns)


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
