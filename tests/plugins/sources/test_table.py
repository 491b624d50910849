from __future__ import annotations

from pathlib import Path

import pytest

from ltxcore.dataset.sources import read_table
from ltxcore.errors import DataError


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("set.csv", "video,caption\na.mp4,one\nb.mp4,two\n"),
        ("set.CSV", "\ufeffvideo,caption\r\na.mp4,one\r\n\r\nb.mp4,two\r\n"),
        ("set.jsonl", '{"video": "a.mp4", "caption": "one"}\n\n{"video": "b.mp4", "caption": "two"}'),
        ("set.json", '[\n{"video": "a.mp4", "caption": "one"},\n {"video": "b.mp4", "caption": "two"}\n]\n'),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    table = read_table(written(tmp_path, name, text))
    assert table.problems == ()
    assert table.columns == ("video", "caption")
    assert [row.values for row in table.rows] == [{"video": "a.mp4", "caption": "one"}, {"video": "b.mp4", "caption": "two"}]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("set.csv", 'video,caption\n"a.mp4","one\nand more"\nb.mp4,two\n', [2, 4]),
        ("set.jsonl", '\n{"video": "a.mp4"}\n\n{"video": "b.mp4"}\n', [2, 4]),
        ("set.json", '[{"video":\n "a.mp4"},\n\n{"video": "b.mp4"}]', [1, 4]),
    ],
)
def test_rows_know_the_line_they_start_in(tmp_path: Path, name: str, text: str, lines: list[int]) -> None:
    assert [row.line for row in read_table(written(tmp_path, name, text)).rows] == lines


def test_a_line_separator_inside_a_caption_does_not_end_the_row(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "set.jsonl", '{"caption": "one\u2028two"}\n'))
    assert table.rows[0].values == {"caption": "one\u2028two"}
    table = read_table(written(tmp_path, "set.csv", "caption\none\u2028two\nthree\n"))
    assert [row.values["caption"] for row in table.rows] == ["one\u2028two", "three"]


def test_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "set.jsonl", '{"video": "a"}\n{"audio": "b", "video": "c"}\n'))
    assert table.columns == ("video", "audio")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "set.csv",
            "video,caption\na.mp4\n",
            "{path}:2: has 1 cell, but the header has 2\n    Put cells that contain a comma in double quotes.",
        ),
        ("set.csv", "video,video\na,b\n", '{path}:1: names the column "video" twice\n    Give each column a name of its own.'),
        (
            "set.csv",
            'video\n"a.mp4\n',
            "{path}:2: is not CSV: unexpected end of data\n    Put cells that contain a comma, a quote or a line break in double quotes.",
        ),
        (
            "set.jsonl",
            '{"video": "a.mp4"}\n{"video": }\n["b"]\n{"a": 1, "a": 2}\n',
            "{path}:2: is not a JSON object: Expecting value\n    Each line must be one object with the columns as keys.\n"
            '{path}:3: is ["b"], not an object\n    Each sample must be one object with the columns as keys.\n'
            '{path}:4: is not a JSON object: the key "a" appears twice\n    Each line must be one object with the columns as keys.',
        ),
        ("set.json", '{"video": "a"}', "{path}:1: is not a list\n    The file must be one list of objects, with the columns as keys."),
        (
            "set.json",
            '[{"video": "a"}\n{"video": "b"}]',
            "{path}:2: is not JSON: a comma is missing after the preceding object\n    The file must be one list of objects, with the columns as keys.",
        ),
        (
            "set.json",
            '[{"video": "a"},\n{"video": ]',
            "{path}:2: is not JSON: Expecting value\n    The file must be one list of objects, with the columns as keys.",
        ),
        (
            "set.json",
            '[\n{"a": 1, "a": 2}]',
            '{path}:2: is not JSON: the key "a" appears twice\n    The file must be one list of objects, with the columns as keys.',
        ),
        (
            "set.json",
            '[{"video": "a"}]\n[]',
            "{path}:2: contains text after the end of the list\n    The file must be one list of objects, with the columns as keys.",
        ),
        (
            "set.json",
            '[{"video": "a"},\n',
            "{path}:2: is not JSON: Expecting value\n    The file must be one list of objects, with the columns as keys.",
        ),
    ],
)
def test_what_is_wrong_with_the_text_is_told_with_its_line(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = written(tmp_path, name, text)
    assert "\n".join(str(problem) for problem in read_table(path).problems) == expected.format(path=path)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "set.txt",
            "a",
            '{path}: no installed source reads a ".txt" file\n    Write it as .jsonl, .csv, .tsv, .json or .parquet, or add a plugin with a source '
            "that reads it: install it, or name its Python file in --plugin or in the plugins of a run file.",
        ),
        ("set.jsonl", b'{"video": "\xff"}', "{path}: is not UTF-8 text (byte 11)\n    Save the file as UTF-8."),
        ("set.jsonl", "\n", '{path}: has no rows\n    Give it one row per sample, with the columns "video" or "audio", and "caption".'),
        (
            "set.csv",
            "video,caption\n",
            '{path}: has no rows\n    Give it one row per sample, with the columns "video" or "audio", and "caption".',
        ),
        ("set.json", "[ ]", '{path}: has no rows\n    Give it one row per sample, with the columns "video" or "audio", and "caption".'),
    ],
)
def test_a_file_that_is_no_dataset_is_refused(tmp_path: Path, name: str, text: str | bytes, expected: str) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(DataError) as error:
        read_table(path)
    assert str(error.value) == expected.format(path=path)


def test_a_missing_file_is_refused_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    written(tmp_path, "clips.jsonl", "{}")
    with pytest.raises(DataError) as error:
        read_table(tmp_path / "clip.jsonl")
    assert str(error.value) == f'{tmp_path}/clip.jsonl: this dataset file does not exist\n    Did you mean "clips.jsonl"?'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("set.csv", "video;caption\na.mp4;one, two\nb.mp4;three\n"),
        ("set.csv", "sep=;\r\nvideo;caption\r\na.mp4;one, two\r\nb.mp4;three\r\n"),
        ("set.csv", "video\tcaption\na.mp4\tone, two\nb.mp4\tthree\n"),
        ("set.TSV", "\ufeffvideo\tcaption\na.mp4\tone, two\nb.mp4\tthree\n"),
        ("set.csv", 'video,caption\na.mp4,"one, two"\nb.mp4,three\n'),
    ],
)
def test_semicolons_and_tabs_between_cells_are_read_as_commas_are(tmp_path: Path, name: str, text: str) -> None:
    table = read_table(written(tmp_path, name, text))
    assert table.problems == ()
    assert [row.values for row in table.rows] == [{"video": "a.mp4", "caption": "one, two"}, {"video": "b.mp4", "caption": "three"}]


def test_what_stands_between_cells_is_told_by_the_header_alone(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "set.csv", "video,caption\na;b.mp4,one; two; three\tfour\n"))
    assert table.rows[0].values == {"video": "a;b.mp4", "caption": "one; two; three\tfour"}
    assert read_table(written(tmp_path, "one.csv", "audio\na;b.wav\n")).rows[0].values == {"audio": "a;b.wav"}
    table = read_table(written(tmp_path, "off.csv", "video;caption\na.mp4;one;two\n"))
    assert [str(each) for each in table.problems] == [
        f"{tmp_path}/off.csv:2: has 3 cells, but the header has 2\n    Put cells that contain a semicolon in double quotes."
    ]


def test_lines_are_counted_after_the_one_that_says_what_stands_between_cells(tmp_path: Path) -> None:
    assert [row.line for row in read_table(written(tmp_path, "set.csv", "sep=;\nvideo;caption\na;b\n\nc;d\n")).rows] == [3, 5]


def test_a_cell_that_is_too_long_for_csv_gets_the_true_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, "set.csv", f"video,caption\na.mp4,{'x' * 140_000}\n")
    assert [str(each) for each in read_table(path).problems] == [
        f"{path}:2: has a cell of more than 131,072 characters, which is the limit for CSV\n"
        "    Check for a double quote that is never closed: it makes everything after it one cell. "
        "If the text is really that long, write it to a .jsonl file."
    ]


@pytest.mark.parametrize("name", ["set.jsonl", "set.json"])
def test_values_that_are_nested_too_deeply_are_refused_in_words(tmp_path: Path, name: str) -> None:
    row = '{"video": ' + "[" * 100_000 + "]" * 100_000 + "}"
    path = written(tmp_path, name, row if name.endswith("l") else f"[{row}]")
    (problem,) = read_table(path).problems
    assert problem.what.endswith(": the values are nested too deeply")
    assert problem.where == f"{path}:1"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "set.jsonl", "{}")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)  # the tests may run as a user who may read all
    with pytest.raises(DataError) as error:
        read_table(path)
    assert str(error.value) == f"{path}: cannot be read: Permission denied\n    Check the permissions of the file."


def test_a_name_that_no_file_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_table(tmp_path / f"{'x' * 5000}.jsonl")
    assert error.value.problems[0].what == "this dataset file does not exist"
