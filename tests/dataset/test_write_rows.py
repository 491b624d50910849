"""Rows are written as dataset files that are read as the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltxcore.dataset.sources import read_table
from ltxcore.dataset.write_rows import rows_writer
from ltxcore.errors import ConfigError, DataError


@pytest.mark.parametrize("name", ["set.jsonl", "set.JSON", "set.csv"])
def test_what_is_written_is_read_as_the_same_rows(tmp_path: Path, name: str) -> None:
    rows = [{"video": "a.mp4", "caption": 'one, "two"\nthree'}, {"video": "ä ;b.mp4", "caption": ""}]
    rows_writer(tmp_path / name)(rows)
    assert [dict(row.values) for row in read_table(tmp_path / name).rows] == rows


def test_an_ending_that_is_only_read_or_not_known_is_not_written(tmp_path: Path) -> None:
    for name in ("set.tsv", "set.txt", "set"):
        with pytest.raises(ConfigError) as error:
            rows_writer(tmp_path / name)
        assert str(error.value) == (
            f'{tmp_path}/{name}: a dataset cannot be written as a "{Path(name).suffix}" file\n    Write .jsonl, .json or .csv.'
        )


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("a file, where a folder is to be")
    write = rows_writer(tmp_path / "no/set.jsonl")
    with pytest.raises(DataError, match=r"no/set\.jsonl: cannot be written: "):
        write([{"video": "a.mp4"}])


def test_a_csv_file_cannot_hold_several_captions_in_a_cell(tmp_path: Path) -> None:
    rows = [{"video": "a.mp4", "caption": "one", "speed": [1, 2]}, {"video": "b.mp4", "caption": ["one", "two"]}]
    with pytest.raises(ConfigError) as error:
        rows_writer(tmp_path / "set.csv")(rows)
    assert str(error.value) == (
        f'{tmp_path}/set.csv: the column "caption" holds lists of texts, which a CSV file cannot hold\n    Write .jsonl or .json.'
    )
    assert not (tmp_path / "set.csv").exists()
    rows_writer(tmp_path / "set.csv")(rows[:1])
    assert (tmp_path / "set.csv").read_text() == 'video,caption,speed\na.mp4,one,"[1, 2]"\n'
