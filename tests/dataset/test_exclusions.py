"""Clips that the user excludes: neither the dataset nor its files change, and every command that reads samples leaves them out and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

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
    assert notes == (f"{folder / '.exclude'}: 1 line of no sample (gone.mp4)",)


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
    done = CliRunner().invoke(main, ["preprocess", str(folder), "--model-path", "tiny", "--skip-audio", "--no-progress"])
    assert done.exit_code == 0, done.output
    assert "1 sample excluded by" in done.output
    encoded = folder.with_name("clips.precomputed") / "latents"
    assert sorted(path.name for path in encoded.glob("*.safetensors")) == ["#c d.safetensors", "a.safetensors"]
    told = CliRunner().invoke(main, ["doctor", str(folder), "--no-progress"])
    assert "excluded by" in told.output
    assert "b.mp4" not in told.output


def test_a_dataset_whose_name_leaves_no_room_has_a_list_with_a_shortened_name(tmp_path: Path) -> None:
    dataset = tmp_path / f"{'ä' * 124}.jsonl"
    dataset.write_text("{}\n")
    assert read_excluded(dataset) == ()
    write_excluded(dataset, ["a.mp4"])
    assert read_excluded(dataset) == ("a.mp4",)
