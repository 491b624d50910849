"""A path picks the source that reads it, the user may name another, and what a source does wrong is told as its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.raw_media import dataset_file
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.raw_dataset import open_dataset
from ltxcore.dataset.rows import read_dataset
from ltxcore.dataset.sources import endings, is_dataset, read_rows, read_table
from ltxcore.encode.roots import data_kind
from ltxcore.errors import DataError, PluginError, Problem
from ltxcore.registry import Named, Origin, Registry, load
from ltxcore.sources import Row, Table

ORIGIN = Origin("lines", "ltx-lines", "1.0")


@attrs.frozen
class Lines:
    """Text files with a clip in each line."""

    endings = (".lines",)

    caption: str = "a car"

    def read(self, path: Path) -> Table:
        return Table(path, tuple(Row(number, {"video": line, "caption": self.caption}) for number, line in enumerate(lines(path), start=1)))


@attrs.frozen
class Album:
    """Folders with a file album.lines."""

    @staticmethod
    def recognizes(path: Path) -> bool:
        return (path / "album.lines").is_file()

    def read(self, path: Path) -> Table:
        rows = tuple(Row(number, {"video": f"{line}.mp4", "caption": line}) for number, line in enumerate(lines(path / "album.lines"), 1))
        return Table(path, rows)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def options(*sources: Any, **keys: Any) -> PreprocessingTable:
    """With these sources besides those of ltx, each by the lower-case name of its class."""
    ours = load(disabled=())
    named = {cls.__name__.lower(): Named(cls.__name__.lower(), "source", cls, ORIGIN) for cls in sources}
    return PreprocessingTable(**keys, registry=Registry({**ours.names, "source": {**ours.of_kind("source"), **named}}))


def listing(folder: Path, name: str = "set.lines") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("a.mp4\nb.mp4\n")
    for clip in ("a.mp4", "b.mp4"):
        ((folder / name).parent / clip).touch()
    return folder / name


def test_a_file_is_read_by_the_source_of_its_ending(tmp_path: Path) -> None:
    path = listing(tmp_path)
    data = read_dataset(path, options(Lines))
    assert [(each.name, each.caption, each.where) for each in data.samples] == [("a", "a car", f"{path}:1"), ("b", "a car", f"{path}:2")]
    assert is_dataset(path, options(Lines))
    assert not is_dataset(path)
    assert endings(options(Lines)) == [".jsonl", ".csv", ".tsv", ".json", ".parquet", ".lines"]
    with pytest.raises(DataError) as error:
        read_table(path)
    assert str(error.value).startswith(f'{path}: no installed source reads a ".lines" file\n    Write it as .jsonl, .csv, ')


def test_a_folder_goes_to_the_source_that_recognizes_it_before_the_general_one(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    listing(tmp_path / "clips", "album.lines").write_text("a\nb\n")
    data = read_dataset(tmp_path / "clips", options(Album))
    assert [(each.name, each.caption, dict(each.media)) for each in data.samples] == [
        (name, name, {"video": tmp_path / f"clips/{name}.mp4"}) for name in ("a", "b")
    ]
    assert (data.is_folder, data.folder) == (False, tmp_path / "clips")
    assert read_rows(tmp_path / "clips", options()).is_folder
    with_keys = read_rows(tmp_path / "clips", options(Album, caption_from="folder"))
    assert [row.values["caption"] for row in with_keys.rows] == ["clips", "clips"], "only one of the two has the key"


def test_several_sources_for_one_path_are_not_guessed_between(tmp_path: Path) -> None:
    class Other(Lines):
        """Another."""

    path = listing(tmp_path)
    with pytest.raises(DataError) as error:
        read_rows(path, options(Lines, Other))
    assert str(error.value) == (
        f'{path}: can be read by several sources, "lines" of ltx-lines 1.0 (lines) and "other" of ltx-lines 1.0 (lines)\n'
        '    Choose one, such as preprocessing.source = "lines".'
    )


def test_a_source_that_is_named_reads_whatever_the_path_is_like(tmp_path: Path) -> None:
    named = options(source="lines", reader=Lines("a bus"))
    assert {row.values["caption"] for row in read_rows(listing(tmp_path, "set.txt"), named).rows} == {"a bus"}


class Broken(Lines):
    """With whatever is wrong with it."""

    gives: Callable[[Path], Any]

    def read(self, path: Path) -> Table:
        table: Table = type(self).gives(path)
        return table


@pytest.mark.parametrize(
    ("gives", "what"),
    [
        (lambda path: [1][1], "IndexError: list index out of range"),
        (lambda path: [Row(1, {})], "TypeError: read() returns list, not a Table"),
        (lambda path: Table(path, ({"video": "a.mp4"},), columns=()), "TypeError: its rows include dict, not a Row with a mapping"),
        (lambda path: Table(path, (Row(1, ["a.mp4"]),), columns=()), "TypeError: its rows include Row, not a Row with a mapping"),  # type: ignore[arg-type]
        (lambda path: Table(path, (Row(1, {3: "a.mp4"}),)), "TypeError: the name of a column is not text"),  # type: ignore[dict-item]
        (lambda path: Table(path, (Row(0, {"video": "a.mp4"}),)), "TypeError: a row has the number 0; they are counted from 1"),
        (lambda path: Table(path, (), ("no",)), "TypeError: its problems include str, not a Problem"),  # type: ignore[arg-type]
    ],
)
def test_what_a_source_does_wrong_is_its_own_fault(tmp_path: Path, gives: Callable[[Path], Any], what: str) -> None:
    broken = type("Broken", (Broken,), {"gives": staticmethod(gives)})
    path = listing(tmp_path)
    with pytest.raises(PluginError) as error:
        read_rows(path, options(broken))
    (problem,) = error.value.problems
    assert problem.what.startswith(f'the source "broken" cannot read this dataset: {what}')
    assert (problem.where, problem.remedy) == (str(path), "Report this to the author of the source.")


def test_a_source_that_fails_to_tell_what_it_reads_is_named(tmp_path: Path) -> None:
    class Unsure(Lines):
        """Raises."""

        @staticmethod
        def recognizes(path: Path) -> bool:
            raise KeyError(path.name)

    (tmp_path / "clips").mkdir()
    with pytest.raises(PluginError, match=r'clips: the source "unsure" cannot tell whether it reads this dataset: KeyError'):
        read_rows(tmp_path / "clips", options(Unsure))


def test_places_of_problems_are_completed(tmp_path: Path) -> None:
    class Doubtful(Lines):
        """With a problem for a line, one for all, and one for a file."""

        def read(self, path: Path) -> Table:
            return Table(path, (), (Problem("one", "7"), Problem("two"), Problem("three", "a.mp4")), notes=("four",))

    path = listing(tmp_path)
    table = read_rows(path, options(Doubtful, source="doubtful", reader=Doubtful()))
    assert [problem.where for problem in table.problems] == [f"{path}:7", str(path), "a.mp4"]
    assert table.notes == (f"{path}: four",)


def test_a_place_that_a_row_gives_itself_is_that_of_its_faults(tmp_path: Path) -> None:
    class Placed(Lines):
        """With places of its own."""

        def read(self, path: Path) -> Table:
            return Table(path, tuple(Row(1, {"video": name, "caption": ""}, place=f"box {name}") for name in ("a.mp4", "c.mp4", "a.mp4")))

    with pytest.raises(DataError) as error:
        read_dataset(listing(tmp_path), options(Placed, source="placed", reader=Placed()))
    assert [(problem.where, problem.what) for problem in error.value.problems] == [
        ("box c.mp4", 'the video "c.mp4" is not there'),
        ("box a.mp4", '"a.mp4" is already in box a.mp4'),
    ]


def test_without_any_source_nothing_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTX_DISABLE_PLUGINS", "sources")
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4"}])
    with pytest.raises(DataError, match=r'set\.jsonl: no installed source reads a "\.jsonl" file\n    Add a plugin with a source '):
        read_table(path)
    with pytest.raises(DataError, match="is a folder that no source reads"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="is not a dataset, an encoded set or a run file"):
        data_kind(path)
