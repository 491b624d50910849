"""The source of this package keeps to the protocol, and says what is wrong with a database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ltx_late.shelf import Shelf

from ltxcore.api import DataError
from ltxcore.testing import check_source


def shelf(folder: Path, table: str) -> Path:
    path = folder / "set.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE {table} (video TEXT, caption TEXT)")
        database.executemany(f"INSERT INTO {table} VALUES (?, ?)", [("a.mp4", "a red car"), ("b.mp4", "a blue car")])
        database.commit()
    return path


@pytest.mark.parametrize("table", ["clips", "films"])
def test_shelf_keeps_to_the_protocol(tmp_path: Path, table: str) -> None:
    check_source(Shelf(table), shelf(tmp_path, table))


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='the table "clips" cannot be read: no such table: clips'):
        Shelf().read(shelf(tmp_path, "films"))
