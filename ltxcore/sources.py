"""The protocol of sources, which read datasets, and the rows that they give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs

from ltxcore.errors import Problem


@attrs.frozen
class Row:
    """A row of a dataset, with its cells.

    Attributes:
        line: the line of a dataset file where the row starts, or its number, counted from 1; 0 for a folder, whose rows
            are files.
        values: its cells, by column. Cells of columns that hold files are paths, absolute or relative to the dataset's
            folder.
        file: for a folder, the media file, as a path under the folder.
        lacks: for a folder, the reason why it has no caption; None if it has one.
        caption_file: for a folder, the file of its caption, whether it exists or not, as a path under the folder.
        place: where the row is, for messages; by default the dataset's path and the line, or the file.
    """

    line: int
    values: Mapping[str, Any]
    file: str = ""
    lacks: Problem | None = None
    caption_file: str = ""
    place: str = ""


@attrs.frozen
class Table:
    """The content of a dataset: its rows, the names of its columns in order of appearance, and what is wrong with it.

    Attributes:
        path: the dataset file or folder.
        rows: the rows, in order.
        problems: the problems that must be fixed before anything can be made from the dataset.
        columns: the names of the columns; by default, those of all rows, in order of appearance.
        unusable: for a folder, the files that cannot be used; they may be left out.
        notes: facts that the user should know and that are not mistakes.
        is_folder: whether its rows are the media of a folder; each has a clip or a picture ("video"), or else an audio
            file ("audio"), and cells are paths under the folder.
        folder: the folder that cells are relative to; by default that of the dataset file, or the folder itself.
        pairing: for a folder, how a medium is given what goes with it, such as a reference, by column: the remedy for rows without.
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
        default=attrs.Factory(lambda self: self.path if self.is_folder else self.path.parent, takes_self=True), kw_only=True
    )
    pairing: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)

    def at(self, row: Row) -> str:
        """Return the place of a row, for a message."""
        return row.place or (str(self.path / row.file) if self.is_folder else f"{self.path}:{row.line}")


class SourceType(Protocol):
    """The type that the hook `ltx_sources` registers: an attrs class whose fields are the keys of
    `[preprocessing.source_params]`, all with defaults.

    A path alone decides which source reads it. The class says which paths are its own by one of these, or both:

    - `endings`: a tuple of the endings of the files that it reads, in lower case, such as `(".sqlite", ".db")`.
    - `recognizes(path)`: a static method that returns whether it reads what is at a path, a file or a folder. It opens
      nothing that is large, and raises nothing.

    With `is_general = True` it reads only what no other source recognizes.
    """

    def read(self, path: Path) -> Table:
        """Return the rows of the dataset at a path, which exists.

        What is wrong with single rows becomes `problems`, so that it is told together with everything else; the place of
        each is written in full, or is the number of a line, or "" for the whole dataset. Columns, files and captions are
        checked by the core. The same content gives the same rows in the same order.

        Raises:
            DataError: nothing in it can be read.
        """
        ...


def faults_of(cls: Any) -> Iterator[str]:
    """Yield what is wrong with the declarations of a source's class."""
    endings = getattr(cls, "endings", ())
    if not isinstance(endings, tuple) or not all(isinstance(each, str) and re.fullmatch(r"\.[^A-Z/]+", each) for each in endings):
        yield f'has endings {endings!r}; they are a tuple of endings in lower case, such as (".jsonl",)'
    if not endings and not callable(getattr(cls, "recognizes", None)):
        yield "recognizes no path: it has neither endings nor recognizes()"
    if not isinstance(getattr(cls, "is_general", False), bool):
        yield f"has is_general {cls.is_general!r}; it must be True or False"
    required = [field.name for field in attrs.fields(cls) if field.init and field.default is attrs.NOTHING]
    if required:
        yield f'has a field "{required[0]}" without a default, which no path alone can give'
