"""The conformance kit says of every wrong source what is wrong with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from ltxcore.errors import DataError, Problem
from ltxcore.sources import Row, Table
from ltxcore.testing import check_source
from ltxplugins.sources.folder import Folder
from ltxplugins.sources.table import TableFile

CALLS = itertools.count(1)


@attrs.frozen
class Right:
    """Right: a clip in each line, by a way of reading that each class below spoils."""

    endings = (".lines",)

    column: str = "video"

    def read(self, path: Path) -> Table:
        try:
            lines = path.read_text().split("\n")
        except UnicodeDecodeError as error:
            raise DataError("is not UTF-8 text", where=str(path), remedy="Save the file as UTF-8.") from error
        return self.table(path, lines)

    def table(self, path: Path, lines: list[str]) -> Table:
        return Table(path, tuple(Row(number, {self.column: line}) for number, line in enumerate(lines, start=1) if line))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "set.lines"
    path.write_text("a.mp4\nb.mp4\n")
    return path


def spoiled(**methods: Callable[..., Any]) -> Any:
    return attrs.frozen(type("Spoiled", (Right,), methods))


def written(self: Right, path: Path, lines: list[str]) -> Table:
    path.with_name("index").write_text("seen")
    return Right.table(self, path, lines)


def other_each_time(self: Right, path: Path, lines: list[str]) -> Table:
    return Table(path, (Row(1, {"video": f"{next(CALLS)}.mp4"}),))


def unguarded(self: Right, path: Path) -> Table:
    return self.table(path, path.read_text().split("\n"))


def unsure(path: Path) -> bool:
    return bool(path.read_text())


def captioned(self: Right, path: Path, lines: list[str]) -> Table:
    return Table(
        path, tuple(Row(n, dict(zip(("video", "caption"), line.split("|"), strict=False))) for n, line in enumerate(lines, 1) if line)
    )


def all_alike(self: Right, table: Table, column: str, captions: Mapping[int, str]) -> Mapping[Path, str]:
    return {table.path: "".join(f"{row.values['video']}|{captions[0]}\n" for row in table.rows)}


def saved(self: Right, table: Table, column: str, captions: Mapping[int, str]) -> Mapping[Path, str]:
    table.path.with_name("saved").write_text("x")
    return {}


RECAPTIONED = [
    (lambda self, table, column, captions: {}, "after recaptioned(), does not give the rows that it read with the new captions"),
    (all_alike, "after recaptioned(), does not give the rows that it read with the new captions"),
    (saved, "writes in recaptioned(), which must only return what is to be written"),
    (lambda self, table, column: {}, "raises TypeError where captions are changed: "),
]


@pytest.mark.parametrize(("recaptioned", "fault"), RECAPTIONED)
def test_captions_that_are_not_changed_as_asked_are_a_fault(tmp_path: Path, recaptioned: Callable[..., Any], fault: str) -> None:
    (tmp_path / "set.lines").write_text("a.mp4|one\nb.mp4|two\n")
    with pytest.raises(AssertionError) as error:
        check_source(spoiled(table=captioned, recaptioned=recaptioned), tmp_path / "set.lines")
    assert f"  - {fault}" in str(error.value)


@pytest.mark.parametrize(
    ("methods", "fields", "fault"),
    [
        ({"table": written}, {}, "writes to the folder of the dataset"),
        ({"table": other_each_time}, {}, "gives different rows, or another order, when it reads the same dataset again"),
        ({"table": lambda self, path, lines: Table(path, ())}, {}, "gives no rows of the dataset that it is tried on"),
        (
            {"table": lambda self, path, lines: Table(path, tuple(Row(1, {"video": line}) for line in lines))},
            {},
            "gives all rows the same place, so that a message cannot tell them apart",
        ),
        (
            {"table": lambda self, path, lines: attrs.evolve(Right.table(self, path, lines), problems=(Problem("is torn", "2"),))},
            {},
            "finds a fault in the dataset that it is tried on: ",
        ),
        ({"table": lambda self, path, lines: lines}, {}, "raises TypeError for the dataset: read() returns list, not a Table"),
        ({}, {"column": "film"}, "gives the columns film; the core knows video, media_path, audio, "),
        ({"read": unguarded}, {}, "raises UnicodeDecodeError for set.lines with bytes that are not text in its middle: "),
        ({"recognizes": staticmethod(unsure)}, {}, "recognizes() raises IsADirectoryError for empty"),
        ({"recognizes": staticmethod(lambda path: True)}, {}, "recognizes a PDF"),
        ({"endings": (".other",)}, {}, "does not recognize the dataset: neither its endings nor recognizes() say that it reads it"),
        ({"endings": ()}, {}, "recognizes no path: it has neither endings nor recognizes()"),
        ({"endings": ("LINES",)}, {}, "has endings ('LINES',); they must be a tuple of endings in lower case"),
        ({"recaptioned": True}, {}, "has recaptioned, which is not a method"),
        ({"is_general": 1}, {}, "has is_general 1; it must be True or False"),
    ],
)
def test_each_fault_is_named(dataset: Path, methods: dict[str, Any], fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(AssertionError) as error:
        check_source(spoiled(**methods), dataset, **fields)
    assert str(error.value).startswith("Spoiled breaks the protocol of sources:\n")
    assert f"  - {fault}" in str(error.value)


def test_a_key_without_a_default_is_a_fault(dataset: Path) -> None:
    @attrs.frozen
    class Needing(Right):
        """Needs what no path gives."""

        table_name: str = attrs.field(kw_only=True)

    with pytest.raises(AssertionError, match='has a field "table_name" without a default, but a source must be usable with a path alone'):
        check_source(Needing, dataset, table_name="x")


def test_a_right_source_passes(dataset: Path) -> None:
    check_source(Right, dataset)
    check_source(Right("audio"), dataset)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("set.jsonl", '{"video": "a.mp4", "caption": "one"}\n{"video": "b.mp4", "caption": "two"}\n'),
        ("set.json", '[\n{"video": "a.mp4", "caption": "one"},\n{"video": "b.mp4", "caption": "two"}\n]\n'),
        ("set.csv", "video,caption\na.mp4,one\nb.mp4,two\n"),
        ("set.tsv", "video\tcaption\na.mp4\tone\nb.mp4\ttwo\n"),
    ],
)
def test_the_source_of_dataset_files_passes_with_every_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    check_source(TableFile, tmp_path / name)


def test_the_source_of_folders_passes(tmp_path: Path) -> None:
    for name in ("clips/a.mp4", "clips/a.txt", "clips/more/b.wav", "clips/more/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a caption")
    check_source(Folder, tmp_path / "clips", caption_from="folder")
