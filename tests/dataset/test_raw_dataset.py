"""Datasets that are worked on: which column plays which role, where files and texts are, and what a row is elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.raw_media import dataset_file
from ltxcore.dataset.raw_dataset import open_dataset
from ltxcore.errors import DataError


def folder_of(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("of no format")
    return place


def test_rows_of_a_file_name_files_under_its_folder(tmp_path: Path) -> None:
    listed = open_dataset(dataset_file(tmp_path / "in/set.jsonl", [{"media_path": " a.mp4 ", "caption": "one"}, {"media_path": ""}]))
    row, empty = listed.rows
    assert (listed.columns, listed.is_folder, listed.folder) == ({"video": "media_path", "caption": "caption"}, False, tmp_path / "in")
    assert (listed.where(row), listed.role(row), listed.kind(row)) == (f"{tmp_path}/in/set.jsonl:1", "video", "video")
    assert listed.file(row, "video") == tmp_path / "in/a.mp4"
    with pytest.raises(DataError) as error:
        listed.file(empty, "video")
    assert (
        str(error.value)
        == f'{tmp_path}/in/set.jsonl:2: the value of "media_path" does not name a file\n    Name a file, or leave the row out.'
    )


def test_a_column_that_the_user_names_plays_its_role(tmp_path: Path) -> None:
    path = dataset_file(tmp_path / "set.jsonl", [{"clip": "a.mp4", "video": "b.mp4"}])
    assert open_dataset(path, {"video": "clip", "audio": None}).columns == {"video": "clip"}
    with pytest.raises(DataError, match='has no column "clop" to use as the video column'):
        open_dataset(path, {"video": "clop"})


def test_a_moved_row_leads_where_it_did(tmp_path: Path) -> None:
    row = {"video": "clips/a.mp4", "reference_video": "/films/b.mp4", "caption": "clips/a.mp4", "more": "c/d"}
    listed = open_dataset(dataset_file(tmp_path / "in/set.jsonl", [row]))
    assert listed.moved(listed.rows[0], tmp_path / "in") == row
    assert listed.moved(listed.rows[0], tmp_path / "out/x") == {**row, "video": "../../in/clips/a.mp4"}


def test_media_of_a_folder_are_rows_with_their_texts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.mp4", "a.txt", "b/c.PNG", "d.wav", "made/e.mp4")
    listed = open_dataset(folder, apart=tmp_path / "made")
    assert [dict(row.values) for row in listed.rows] == [
        {"video": "a.mp4", "caption": "of no format"},
        {"video": "b/c.PNG"},
        {"audio": "d.wav"},
    ]
    assert [listed.kind(row) for row in listed.rows] == ["video", "image", "sound"]
    assert [listed.text_file(row).relative_to(folder).as_posix() for row in listed.rows] == ["a.txt", "b/c.txt", "d.txt"]
    assert [listed.where(row) for row in listed.rows] == ["", "", ""]


def test_a_text_that_cannot_be_read_leaves_its_medium_out_with_the_reason(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.mp4", "a.txt", "b.mp4")
    (tmp_path / "a.txt").write_bytes(b"\xff")
    listed = open_dataset(tmp_path)
    assert [row.file for row in listed.rows] == ["b.mp4"]
    assert [str(problem) for problem in listed.problems] == [f"{tmp_path}/a.txt: is not UTF-8 text (byte 0)\n    Save the file as UTF-8."]


def test_sounds_beside_clips_have_no_row_in_a_file_and_that_is_told(tmp_path: Path) -> None:
    listed, notes = open_dataset(folder_of(tmp_path, "a.mp4", "d.wav", "e.wav")).without_sounds()
    assert ([row.file for row in listed.rows], listed.columns) == (["a.mp4"], {"video": "video", "caption": "caption"})
    assert notes == ("2 sounds have no row in the output, since its rows are clips and pictures",)
    alone, nothing = open_dataset(folder_of(tmp_path / "sounds", "d.wav")).without_sounds()
    assert ([row.file for row in alone.rows], nothing) == (["d.wav"], ())
