"""Clips that the user excludes: neither the dataset nor its files change, and every command that reads samples leaves them out and says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.media_made import encode, gradient_clip
from ltxcore.api import DataError
from ltxcore.api.dataset import PreprocessingTable, open_dataset, read_excluded, survey_dataset, write_excluded
from ltxcore.cli.main import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "clips").mkdir()
    for name in ("a", "b", "#c d"):
        encode(folder / f"{name}.mp4", gradient_clip())
        (folder / f"{name}.txt").write_text(f"Caption {name}")
    return folder


RUN = """
output_dir = "run"
[model]
model_path = "tiny"
[training_strategy]
name = "flexible"
[training_strategy.video]
is_generated = true
latents_dir = "latents"
[optimization]
steps = 9
[acceleration]
mixed_precision_mode = "no"
[data]
dataset = "clips"
[preprocessing]
skip_audio = true
"""


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def samples(dataset: Path) -> tuple[list[str], tuple[str, ...]]:
    data, problems = survey_dataset(dataset, PreprocessingTable())
    assert problems == ()
    return [sample.name for sample in data.samples], data.notes


def test_excluded_clips_of_a_folder_are_left_out_with_a_note(folder: Path) -> None:
    write_excluded(folder, ["#c d.mp4", "a.mp4", "a.mp4"])
    assert (folder / ".exclude").read_text() == "#c d.mp4\na.mp4\n"
    names, notes = samples(folder)
    assert names == ["b"]
    assert notes == (f"{folder}: 2 samples excluded by {folder / '.exclude'}",)
    assert len(open_dataset(folder).rows) == 3  # programs that show the dataset show them still


def test_excluded_rows_of_a_dataset_file_are_left_out_with_what_is_wrong_with_them(folder: Path) -> None:
    dataset = folder / "d.csv"
    dataset.write_text("video,caption\na.mp4,one\nmissing.mp4,two\n")
    write_excluded(dataset, ["missing.mp4"])
    assert (folder / "d.csv.exclude").read_text() == "missing.mp4\n"
    assert samples(dataset)[0] == ["a"]


def test_a_line_that_names_no_sample_is_told(folder: Path) -> None:
    write_excluded(folder, ["gone.mp4"])
    names, notes = samples(folder)
    assert len(names) == 3
    assert notes == (f"{folder / '.exclude'}: 1 line names no sample (gone.mp4)",)


def test_including_all_clips_again_removes_the_list(folder: Path) -> None:
    write_excluded(folder, ["a.mp4"])
    write_excluded(folder, [])
    assert not (folder / ".exclude").exists()
    assert read_excluded(folder) == ()


def test_a_list_that_excludes_everything_is_refused(folder: Path) -> None:
    write_excluded(folder, ["a.mp4", "b.mp4", "#c d.mp4"])
    with pytest.raises(DataError, match="excludes every sample"):
        samples(folder)


def test_a_path_with_a_line_break_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(DataError, match="line break"):
        write_excluded(folder, ["a\nb.mp4"])
    assert not (folder / ".exclude").exists()


def test_a_list_that_windows_wrote_is_read(folder: Path) -> None:
    (folder / ".exclude").write_bytes(b"\xef\xbb\xbfa.mp4\r\n\r\nb.mp4")
    assert read_excluded(folder) == ("a.mp4", "b.mp4")


def test_a_list_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / ".exclude").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        samples(folder)


def test_preprocessing_encodes_only_what_is_not_excluded_and_the_doctor_looks_at_nothing_else(folder: Path) -> None:
    (folder / "b.mp4").write_bytes(b"damaged")
    write_excluded(folder, ["b.mp4"])
    done = ltx("preprocess", folder, "--model-path", "tiny", "--skip-audio", "--no-progress")
    assert done.exit_code == 0, done.output
    assert "1 sample excluded by" in done.output
    encoded = folder.with_name("clips.precomputed") / "latents"
    assert sorted(path.name for path in encoded.glob("*.safetensors")) == ["#c d.safetensors", "a.safetensors"]
    told = ltx("doctor", folder, "--no-progress")
    assert "excluded by" in told.output
    assert "b.mp4" not in told.output


def test_a_run_does_not_see_what_was_excluded_after_it_was_encoded(folder: Path, tmp_path: Path) -> None:
    (run := tmp_path / "run.toml").write_text(RUN)
    preprocess = ("preprocess", folder, "--model-path", "tiny", "--skip-audio", "--no-progress")
    assert ltx(*preprocess).exit_code == 0
    assert "3 to train on" in ltx("check", run).output
    write_excluded(folder, ["b.mp4"])
    assert "2 to train on" in ltx("check", run).output
    seen = ltx("inspect", run, "--steps", "3")
    assert seen.exit_code == 0, seen.output
    assert set(re.findall(r"^(\S.*?) +video ", seen.output, re.MULTILINE)) == {"a", "#c d"}
    again = ltx(*preprocess)
    assert "1 sample excluded by" in again.output
    assert "left over" not in again.output  # the clip is still there
    write_excluded(folder, [])
    assert "3 to train on" in ltx("check", run).output


@pytest.mark.parametrize("line", ["rain/", "*.mp4", "./a.mp4", "a"])
def test_a_line_is_the_path_of_one_file_and_neither_a_pattern_nor_a_folder(folder: Path, line: str) -> None:
    write_excluded(folder, [line])
    assert samples(folder) == (["#c d", "a", "b"], (f"{folder / '.exclude'}: 1 line names no sample ({line})",))


def test_a_dataset_whose_name_leaves_no_room_has_a_list_with_a_shortened_name(tmp_path: Path) -> None:
    dataset = tmp_path / f"{'ä' * 124}.jsonl"
    dataset.write_text("{}\n")
    assert read_excluded(dataset) == ()
    write_excluded(dataset, ["a.mp4"])
    assert read_excluded(dataset) == ("a.mp4",)
