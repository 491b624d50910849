"""The protocol of sources, which read datasets, and the rows that they return."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs

from ltxcore.errors import Problem
from ltxcore.files import is_folder


@attrs.frozen
class Row:
    """A row of a dataset, with its cells.

    Attributes:
        line: the line of the dataset file where the row starts, or the number of the row, counted from 1; 0 for a
            folder, whose rows are files.
        values: the cells of the row, by column. In columns that hold files, cells are paths, absolute or relative to
            the table's `folder`.
        file: for a folder, the media file, as a path under the folder.
        lacks: for a folder, the reason why the media file has no caption; None if it has a caption.
        caption_file: for a folder, the path of the caption file under the folder, whether the file exists or not.
        place: the place of the row, for messages; by default, the path of the dataset with the line, or the file. Where the lines are those
            of a file in the dataset folder, write this file and the line, as in f"{file}:{line}".
    """

    line: int
    values: Mapping[str, Any]
    file: str = ""
    lacks: Problem | None = None
    caption_file: str = ""
    place: str = ""


@attrs.frozen
class Table:
    """The content of a dataset: its rows, the names of its columns, and everything that is wrong with it.

    Attributes:
        path: the dataset file or folder.
        rows: the rows, in order.
        problems: the problems that must be fixed before the dataset can be used.
        columns: the names of the columns; by default, the columns of all rows in order of appearance.
        unusable: for a folder, the files that cannot be used; the user may choose to leave them out.
        notes: facts that the user should know but that are not mistakes.
        is_folder: whether the rows are the media of a folder. Each row then has either a clip or picture ("video") or
            an audio file ("audio"), and its cells are paths under the folder. If a file in the folder lists the rows, this is False.
        folder: the folder that cells are relative to; by default, the folder of the dataset file, or the dataset folder
            itself.
        pairing: for a folder, how a user adds a companion file, such as a reference, to a media file, by column. Errors
            about rows without such a file give this as the remedy.
    """

    path: Path
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    columns: tuple[str, ...] = attrs.field(
        default=attrs.Factory(lambda self: tuple(dict.fromkeys(column for row in self.rows for column in row.values)), takes_self=True)
    )
    unusable: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    is_folder: bool = False
    folder: Path = attrs.field(
        default=attrs.Factory(lambda self: self.path if is_folder(self.path) else self.path.parent, takes_self=True), kw_only=True
    )
    pairing: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)

    def at(self, row: Row) -> str:
        """Return the place of a row, for messages."""
        return row.place or (str(self.path / row.file) if self.is_folder else f"{self.path}:{row.line}")


class SourceType(Protocol):
    """The type that the hook `ltx_sources` registers: an attrs class whose fields are the keys of
    `[preprocessing.source_params]`, all with defaults.

    The path of a dataset decides which source reads it. The class declares which paths it reads, in one or both of
    these ways:

    - `endings`: a tuple of the extensions of the files that the source reads, in lower case, such as
      `(".sqlite", ".db")`.
    - `recognizes(path: Path) -> bool`: a static method that returns whether the source reads the file or folder at a path. It opens
      no large files, and raises no errors.

    With `is_general = True`, the source reads only paths that no other source recognizes.

    A source whose captions `ltx captions` can change also has this method:

    - `recaptioned(table: Table, column: str, captions: Mapping[int, str]) -> Mapping[Path, str]`: returns the whole new text of each file
      that changes, by path, and writes nothing. `table` is what `read` returned (for a folder, perhaps without some rows), `column` is the
      column of the captions, and `captions` has the new captions by the index of the row in the table (a list for a row whose cell is a
      list of captions). Everything else must stay as it is,
      and `read` must then return the new captions: what `read` adds to captions is removed by `recaptioned`. Files that are not text cannot
      be changed in this way; raise a DataError to refuse such files, or captions that cannot be written.
    """

    def read(self, path: Path) -> Table:
        """Return the rows of the dataset at an existing path.

        Mistakes in single rows go into `problems`, so that the user sees them together with all others. The place of a
        problem is written in full, or is a line number of the dataset file, or is "" for the whole dataset. In a dataset folder, it is
        written in full, as in f"{file}:{line}". The core checks columns, files
        and captions. The same content must give the same rows in the same order.

        Raises:
            DataError: nothing in the dataset can be read.
        """
        ...


def faults_of(cls: Any) -> Iterator[str]:
    """Yield every fault in the declarations of a source's class."""
    endings = getattr(cls, "endings", ())
    if not isinstance(endings, tuple) or not all(isinstance(each, str) and re.fullmatch(r"\.[^A-Z/]+", each) for each in endings):
        yield f'has endings {endings!r}; they must be a tuple of endings in lower case, such as (".jsonl",)'
    if not endings and not callable(getattr(cls, "recognizes", None)):
        yield "recognizes no path: it has neither endings nor recognizes()"
    if not isinstance(getattr(cls, "is_general", False), bool):
        yield f"has is_general {cls.is_general!r}; it must be True or False"
    if not callable(getattr(cls, "recaptioned", str)):
        yield "has recaptioned, which is not a method"
    required = [field.name for field in attrs.fields(cls) if field.init and field.default is attrs.NOTHING]
    if required:
        yield f'has a field "{required[0]}" without a default, but a source must be usable with a path alone'
