"""Broken datasets of every source: each is refused with its place and what to do, or what is wrong is left out by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import survey_dataset
from ltxcore.errors import DataError, Problem

Files = dict[str, str | bytes]

HEAD = "video,caption\n"
ROW = '{"video": "a.mp4", "caption": "c"}\n'

TABLES: list[tuple[Files, str]] = [
    ({"set.jsonl": ""}, "has no rows"),
    ({"set.jsonl": "\n\n"}, "has no rows"),
    ({"set.jsonl": b"\xff\xfe{}"}, "is not UTF-8 text"),
    ({"set.jsonl": ROW + "{"}, "is not a JSON object"),
    ({"set.jsonl": ROW + "[1]"}, "is [1], not an object"),
    ({"set.jsonl": ROW + "null"}, "is null, not an object"),
    ({"set.jsonl": ROW + '{"video": "a.mp4", "video": "b.mp4"}'}, 'the key "video" appears twice'),
    ({"set.jsonl": ROW + '{"video": 3, "caption": "c"}'}, 'the value of "video" is 3, not text'),
    ({"set.jsonl": ROW + '{"video": "", "caption": "c"}'}, 'the value of "video" is empty'),
    ({"set.jsonl": ROW + '{"caption": "c"}'}, 'has no "video"'),
    ({"set.jsonl": ROW + '{"video": "b.mp4"}'}, 'has no "caption"'),
    ({"set.jsonl": ROW + '{"video": "b.mp4", "caption": null}'}, 'has no "caption"'),
    ({"set.jsonl": ROW + '{"video": "b.mp4", "caption": ["x", 3]}'}, "not text"),
    ({"set.jsonl": ROW + '{"video": "z.mp4", "caption": "c"}'}, 'the video "z.mp4" is not there'),
    ({"set.jsonl": ROW + '{"video": "../a.mp4", "caption": "c"}'}, "is outside the folder of the dataset"),
    ({"set.jsonl": ROW + '{"video": "sub", "caption": "c"}', "sub/x.pdf": ""}, 'the video "sub" is a folder, not a file'),
    ({"set.jsonl": ROW + ROW}, '"a.mp4" is already in line 1'),
    ({"set.jsonl": '{"film": "a.mp4", "caption": "c"}'}, 'has no column "video" and no column "audio"'),
    ({"set.jsonl": '{"video": "a.mp4"}'}, "has no caption column"),
    ({"set.json": '{"video": "a.mp4"}'}, "is not a list"),
    ({"set.json": '[{"video": "a.mp4", "caption": "c"}'}, "is not JSON"),
    ({"set.json": '[{"video": "a.mp4", "caption": "c"}] more'}, "contains text after the end of the list"),
    ({"set.csv": HEAD + "a.mp4\n"}, "has 1 cell, but the header has 2"),
    ({"set.csv": HEAD + 'a.mp4,"c\n'}, "is not CSV"),
    ({"set.csv": "video,video,caption\na.mp4,b.mp4,c\n"}, 'names the column "video" twice'),
    ({"set.csv": HEAD}, "has no rows"),
    ({"set.tsv": "video,caption\na.mp4,c\n"}, 'has no column "video" and no column "audio"'),
    ({"set.txt": ROW}, 'no installed source reads a ".txt" file'),
]

FOLDERS: list[tuple[Files, str]] = [
    ({}, "contains no clips, images or sounds"),
    ({"clips/notes.pdf": ""}, "contains no clips, images or sounds"),
    ({"clips/.a.mp4": ""}, "contains no clips, images or sounds"),
    ({"clips/run.json": "{}", "clips/a.mp4": ""}, "is the output folder of a run, not a dataset"),
    ({"clips/latents/a.safetensors": "", "clips/a.mp4": ""}, "is a set of encoded samples"),
    ({"clips/b.mp4": ""}, "1 file without a caption: b.mp4"),
    ({"clips/b.mp4": "", "clips/b.txt": " \n"}, "1 file with an empty one: b.mp4"),
    ({"clips/b.mp4": "", "clips/b.txt": b"\xff"}, "is not UTF-8 text"),
    ({"clips/b.mp4": "", "clips/b.txt": b"a\x00b"}, "is not UTF-8 text"),
    ({"clips/b.mp4": "", "clips/b.txt": "c", "clips/b.TXT": "d"}, "has two captions"),
    ({"clips/b.mp4": "", "clips/b.json": "{"}, "is not JSON"),
    ({"clips/b.mp4": "", "clips/b.json": '{"caption": []}'}, 'the value of "caption" is not a list of captions'),
    ({"clips/b.mp4": "", "clips/b.json": "{}"}, "1 file without a caption: b.mp4"),
    ({"clips/b.mp4": "", "clips/b.mov": "", "clips/b.txt": "c"}, "would be the same sample, because file extensions are ignored"),
    ({"clips/b.heic": "", "clips/b.mov": "", "clips/b.txt": "c"}, "would be the same sample, because file extensions are ignored"),
    ({"clips/b.mp4": "", "clips/b.txt": "c", "clips/b_mask.png": "", "clips/masks/b.png": ""}, "has two files for its video mask"),
    ({"clips/a_mask.png": "", "clips/b_mask.png": ""}, "1 file without a caption: b_mask.png"),
    ({"clips/a_mask.png": "LINK:/etc/hostname"}, "is a link that points outside the folder"),
    ({"clips/c_mask.png": ""}, "1 file without a caption: c_mask.png"),
    ({"clips/b.mp4": "LINK:/etc/hostname", "clips/b.txt": "c"}, "is a link that points outside the folder"),
    ({"clips/b.mp4": "LINK:nothing.mp4", "clips/b.txt": "c"}, "is a link whose target is missing"),
    ({"clips/b.mp4": "PIPE", "clips/b.txt": "c"}, "is a pipe, not a file"),
]

JSONL, META = '{"file_name": "a.mp4", "text": "c"}\n', "clips/metadata.jsonl"

LAYOUTS: list[tuple[Files, str]] = [
    ({META: JSONL + "{"}, "is not a JSON object"),
    ({META: JSONL + "3"}, "is 3, not an object"),
    ({META: JSONL + '{"file_name": "z.mp4", "text": "c"}'}, 'the video "z.mp4" is not there'),
    ({META: JSONL + '{"file_name": null, "text": "c"}'}, 'has no "file_name"'),
    ({META: JSONL + '{"file_name": ["b.mp4"], "text": "c"}'}, "not text"),
    ({META: JSONL + '{"file_name": " ", "text": "c"}'}, 'the value of "file_name" is empty'),
    ({META: JSONL + '{"text": "c"}'}, 'has no "file_name"'),
    ({META: JSONL + '{"file_name": "b.mp4"}', "clips/b.mp4": ""}, 'has no "text"'),
    ({META: JSONL + '{"file_name": "../b.mp4", "text": "c"}', "b.mp4": ""}, "is outside the folder of the dataset"),
    ({META: JSONL + JSONL}, '"a.mp4" is already in'),
    ({META: JSONL + '{"file_name": "a.mov", "text": "c"}', "clips/a.mov": ""}, "would have the same name"),
    ({META: '{"file_name": "a.mp4"}\n'}, "has no caption column"),
    ({META: JSONL.encode() + b"\xff"}, "is not UTF-8 text"),
    ({META: JSONL + '{"file_name": "b.mp4", "file_name": "a.mp4"}'}, 'the key "file_name" appears twice'),
    ({META: JSONL, "clips/metadata.csv": "file_name,text\na.mp4,c\n"}, "has metadata.csv and metadata.jsonl"),
    ({"clips/metadata.csv": "file_name,text\n"}, "has no rows"),
    ({"clips/metadata.csv": "file_name,text\na.mp4\n"}, "has 1 cell, but the header has 2"),
    ({"clips/metadata.csv": 'file_name,text\na.mp4,"c\n'}, "is not CSV"),
    ({"clips/metadata.csv": "file_name,file_name,text\na.mp4,b.mp4,c\n"}, 'names the column "file_name" twice'),
    ({"clips/metadata.parquet": b"PAR1"}, "Parquet"),
    ({META: JSONL + '{"file_name": "b.mp4", "text": "c"}', "clips/b.mp4": "PIPE"}, 'the video "b.mp4" is a pipe, not a file'),
    ({META: JSONL, "clips/run.json": "{}"}, "is the output folder of a run, not a dataset"),
]


def made(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == "PIPE":
            os.mkfifo(path)
        elif isinstance(content, str) and content.startswith("LINK:"):
            path.symlink_to(content.removeprefix("LINK:"))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def faults(path: Path, **options: Any) -> tuple[Problem, ...]:
    """What is refused, and what is left out."""
    try:
        data, problems = survey_dataset(path, PreprocessingTable(**options))
    except DataError as error:
        return error.problems
    return (*problems, *data.left_out)


def holds(path: Path, what: str) -> None:
    """A fault is found at a place under the folder, with what to do about it; or if files that fail are left out, by its place."""
    for options in ({}, {"on_error": "skip"}):
        found = [problem for problem in faults(path, **options) if what in problem.what]
        if options and not found:  # what is said of all files at once is said of each that is left out
            found = [problem for problem in faults(path, **options) if problem.where.startswith(str(path))]
        assert found, [str(problem) for problem in faults(path, **options)]
        for problem in found:
            assert str(path.parent) in problem.where
            assert problem.remedy or options


@pytest.mark.parametrize(("files", "what"), TABLES)
def test_a_dataset_file_that_is_broken_is_refused_with_place_and_remedy(tmp_path: Path, files: Files, what: str) -> None:
    made(tmp_path, {"a.mp4": "", "b.mp4": "", **files})
    holds(next(tmp_path.glob("set.*")), what)


@pytest.mark.parametrize(("files", "what"), FOLDERS)
def test_a_folder_that_is_broken_is_refused_with_place_and_remedy_or_what_is_wrong_is_left_out(
    tmp_path: Path, files: Files, what: str
) -> None:
    (tmp_path / "clips").mkdir()
    healthy: Files = (
        {} if not files or what.startswith(("contains no clips", "is the output", "is a set")) else {"clips/a.mp4": "", "clips/a.txt": "c"}
    )
    made(tmp_path, {**healthy, **files})
    holds(tmp_path / "clips", what)


@pytest.mark.parametrize(("files", "what"), LAYOUTS)
def test_a_layout_of_hugging_face_that_is_broken_is_refused_with_place_and_remedy(tmp_path: Path, files: Files, what: str) -> None:
    made(tmp_path, {"clips/a.mp4": "", **files})
    holds(tmp_path / "clips", what)
