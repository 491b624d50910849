"""A source that reads clips and their captions from a table of an SQLite database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs

from ltxcore.api import DataError
from ltxcore.api.sources import Row, Table


@attrs.frozen
class Shelf:
    """A table of an SQLite database, with a row for each clip."""

    endings = (".sqlite", ".db")

    table: str = attrs.field(default="clips", metadata={"help": "the table that is read"})

    def read(self, path: Path) -> Table:
        quoted = self.table.replace('"', '""')
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                cursor = database.execute(f'SELECT * FROM "{quoted}" ORDER BY rowid')
                columns, found = [column[0] for column in cursor.description], cursor.fetchall()
        except sqlite3.Error as error:
            raise DataError(
                f'the table "{self.table}" cannot be read: {error}', where=str(path), remedy="Name another in table."
            ) from error
        return Table(path, tuple(Row(number, dict(zip(columns, row, strict=True))) for number, row in enumerate(found, start=1)))
