"""A local folder in the layout of Hugging Face's datasets is read by its metadata files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.dataset.sources import read_table
from ltxcore.encode.roots import data_kind, default_root
from ltxcore.errors import DataError
from ltxcore.testing import check_source
from ltxplugins.sources.huggingface import HuggingFace


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def layout(folder: Path, **files: str) -> Path:
    """A folder with two clips, and with metadata files of these names; "__" stands for "/", and "_" for "."."""
    touched(folder, "a.mp4", "clips/b.mp4")
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def read(path: Path, **options: Any) -> Dataset:
    return read_dataset(path, PreprocessingTable(**options))


CSV = "file_name,text\na.mp4,one\nclips/b.mp4,two\n"
JSONL = '{"file_name": "a.mp4", "text": "one"}\n{"file_name": "clips/b.mp4", "text": "two"}\n'


@pytest.mark.parametrize("files", [{"metadata_csv": CSV}, {"metadata_jsonl": JSONL}, {"metadata_csv": CSV.replace(",", ";")}])
def test_a_metadata_file_lists_the_media_with_their_captions(tmp_path: Path, files: dict[str, str]) -> None:
    folder = layout(tmp_path / "set", **files)
    data = read(folder)
    (name,) = (path.name for path in folder.glob("metadata.*"))
    assert [(each.name, each.caption, dict(each.media)) for each in data.samples] == [
        ("a", "one", {"video": folder / "a.mp4"}),
        ("clips/b", "two", {"video": folder / "clips/b.mp4"}),
    ]
    assert [each.where for each in data.samples] == [f"{folder}/{name}:{line}" for line in ((1, 2) if name.endswith("jsonl") else (2, 3))]
    assert (data.folder, data.is_folder, data.notes) == (folder, False, ())
    assert default_root(folder) == tmp_path / "set.precomputed"
    assert data_kind(folder) == "dataset"


def test_paths_are_relative_to_the_folder_of_their_metadata_file(tmp_path: Path) -> None:
    folder = touched(tmp_path, "train/a.mp4", "test/b.mp4")
    (folder / "train/metadata.jsonl").write_text('{"file_name": "a.mp4", "text": "one"}\n')
    (folder / "test/metadata.jsonl").write_text('{"file_name": "b.mp4", "text": "two"}\n{"file_name": "c.mp4", "text": "three"}\n')
    with pytest.raises(DataError) as error:
        read(folder)
    assert str(error.value) == f'{folder}/test/metadata.jsonl:2: the video "test/c.mp4" is not there\n    Paths are relative to {folder}.'
    assert [each.name for each in read(folder, on_error="skip").samples] == ["test/b", "train/a"]


def test_further_columns_of_files_are_named_by_what_they_hold(tmp_path: Path) -> None:
    folder = touched(tmp_path, "a.mp4", "depth/a.mp4", "a_mask.png")
    row = {"video_file_name": "a.mp4", "reference_video_file_name": "depth/a.mp4", "video_mask_file_name": "a_mask.png", "caption": "one"}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    (sample,) = read(folder, skip_audio=True).samples
    assert {role: path.relative_to(folder).as_posix() for role, path in sample.media.items()} == {
        "video": "a.mp4",
        "reference_video": "depth/a.mp4",
        "video_mask": "a_mask.png",
    }


def test_a_folder_of_sounds_is_one_of_sounds(tmp_path: Path) -> None:
    touched(tmp_path, "a.wav")
    (tmp_path / "metadata.csv").write_text("file_name,transcription\na.wav,hello\n")
    (sample,) = read(tmp_path).samples
    assert (list(sample.media), sample.caption) == (["audio"], "hello")


def test_media_that_no_metadata_file_lists_are_named(tmp_path: Path) -> None:
    folder = touched(layout(tmp_path, metadata_csv=CSV), "c.mp4", "clips/d.png")
    assert read(folder).notes == (f"{folder}: left out: 2 media that no metadata file lists (c.mp4, clips/d.png)",)


@pytest.mark.parametrize(
    "files",
    [
        {"a_txt": "a caption", "metadata_csv": CSV},
        {"metadata_csv": "name,text\na.mp4,one\n"},
        {"metadata_jsonl": "[1]\n"},
        {"metadata_jsonl": "not JSON\n"},
        {"metadata_csv": ""},
        {"notes_csv": CSV},
        {},
    ],
)
def test_other_folders_stay_folders_of_media(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_table(layout(tmp_path, **files)).is_folder


def test_links_to_files_elsewhere_are_as_good_as_files(tmp_path: Path) -> None:
    touched(tmp_path, "blobs/1.mp4", "snapshot/x.txt")
    (tmp_path / "snapshot/a.mp4").symlink_to(tmp_path / "blobs/1.mp4")
    (tmp_path / "blobs/2").write_text('{"file_name": "a.mp4", "text": "one"}\n')
    (tmp_path / "snapshot/metadata.jsonl").symlink_to(tmp_path / "blobs/2")
    assert [each.name for each in read(tmp_path / "snapshot").samples] == ["a"]


def test_the_source_keeps_to_the_protocol(tmp_path: Path) -> None:
    check_source(HuggingFace, layout(tmp_path / "csv", metadata_csv=CSV))
    check_source(HuggingFace, layout(tmp_path / "jsonl", train__metadata_jsonl=JSONL))


def test_parquet_is_read_too(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = pyarrow.table({"file_name": ["a.mp4", "clips/b.mp4"], "text": ["one", "two"], "thumbnail": [b"1", b"2"]})
    parquet.write_table(rows, layout(tmp_path) / "metadata.parquet")
    data = read(tmp_path)
    assert [(each.name, each.caption) for each in data.samples] == [("a", "one"), ("clips/b", "two")]
    assert data.notes == (f"{tmp_path}: metadata.parquet: left out: columns that hold files instead of their paths (thumbnail)",)
    check_source(HuggingFace, tmp_path)
