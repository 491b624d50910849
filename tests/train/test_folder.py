"""An output folder: free, unfinished, finished, or not one of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.train.folder import RunFolder, check_free
from train.runs import message

WHERE = "run.toml:1: output_dir"


def unfinished(path: Path, text: str = "seed = 1\nsteps = 4\n") -> RunFolder:
    folder = RunFolder(path)
    folder.path.mkdir()
    folder.write_status("running", held_out=["a"])
    folder.run_file.write_text(text)
    return folder


def refusal(folder: RunFolder, resolved: str = "", start_over: bool = False) -> str:
    with pytest.raises(ConfigError) as error:
        check_free(folder, resolved, folder.run_file.read_text() if folder.run_file.exists() else "", WHERE, start_over)
    return message(error.value, folder.path.parent)


def test_a_folder_that_is_not_there_or_empty_is_free(tmp_path: Path) -> None:
    assert check_free(RunFolder(tmp_path / "out"), "", "", WHERE, False) is False
    assert check_free(RunFolder(tmp_path), "", "", WHERE, False) is False
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_of_the_same_file_goes_on(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out")
    saved = folder.run_file.read_text()
    assert check_free(folder, "seed = 1\nsteps = 4\n", saved, WHERE, False) is True
    assert check_free(folder, "anything", saved, WHERE, True) is False


def test_an_unfinished_run_of_another_file_is_refused_with_the_difference(tmp_path: Path) -> None:
    assert refusal(unfinished(tmp_path / "out"), "seed = 2\nsteps = 4\n") == (
        f"{WHERE}: TMP/out holds an unfinished run of another run file:\n"
        "    -seed = 1\n"
        "    +seed = 2\n"
        "    Undo that to go on with it, allow it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir."
    )


def test_a_finished_run_is_not_overwritten_even_when_asked_to_start_over(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out")
    folder.write_status("finished", held_out=[])
    expected = (
        f"{WHERE}: TMP/out holds a finished run, which is not overwritten\n    Choose another output_dir, or remove it: rm -r TMP/out"
    )
    assert refusal(folder) == expected
    assert refusal(folder, start_over=True) == expected


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("")
    assert refusal(RunFolder(tmp_path / "out")) == (
        f"{WHERE}: TMP/out holds files that are not those of a run\n    Choose another output_dir, or empty that folder."
    )


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert refusal(RunFolder(tmp_path / "out")) == f"{WHERE}: TMP/out is a file, not a folder\n    Choose another output_dir."


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "odd", "held_out": []}', '{"status": "running"}', "\x00"])
def test_a_status_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError) as error:
        RunFolder(tmp_path).status()
    assert (
        message(error.value, tmp_path)
        == "TMP/run.json: this is not the status of a run\n    Choose another output_dir, or remove that folder."
    )
