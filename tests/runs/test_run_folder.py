"""An output folder: free, unfinished, finished, or not one of ours."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.training_runs import message, tables, write_run
from ltxcore.config.load import HEADER, load_run
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.runs.run_folder import RunFolder, check_free, check_writable, goes_on

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
        f"{WHERE}: TMP/out holds an unfinished run with another run file:\n"
        "    -seed = 1\n"
        "    +seed = 2\n"
        "    Undo the change to resume it, accept it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir."
    )


def test_a_finished_run_is_not_overwritten_even_when_asked_to_start_over(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out")
    folder.write_status("finished", held_out=[])
    expected = f"{WHERE}: TMP/out holds a finished run, which is not overwritten\n    Choose another output_dir, or move that folder away."
    assert refusal(folder) == expected
    assert refusal(folder, start_over=True) == expected


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("")
    assert refusal(RunFolder(tmp_path / "out")) == (
        f"{WHERE}: TMP/out holds files that no run wrote\n    Choose another output_dir, or empty that folder."
    )


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert refusal(RunFolder(tmp_path / "out")) == f"{WHERE}: TMP/out is a file, not a folder\n    Choose another output_dir."


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "the file is damaged"),
        ("[]", "the file is damaged"),
        ("\x00", "the file is damaged"),
        ("", "the file is damaged"),
        ('{"status": "odd", "held_out": []}', "status has a value that is not possible"),
        ('{"status": "running"}', "held_out is missing"),
        ('{"status": "running", "held_out": [1, {}]}', "held_out[0] is not a text; held_out[1] is not a text"),
        ('{"status": "running", "held_out": [], "processes": "x"}', "processes is not a whole number"),
        ('{"status": "running", "held_out": [], "left_out": "x"}', "left_out is not a whole number"),
        ('{"status": "running", "held_out": [], "before": {"loss": "low"}}', "before['loss'] is not a number"),
        (
            '{"status": "running", "held_out": [], "data": {"root": 1}}',
            "data.root is not a text; data.train is missing; data.held_out is missing",
        ),
        (
            '{"status": "running", "held_out": [], "data": {"root": "", "train": 1, "held_out": 0, "sources": [], "datasets": {"a": 3}}}',
            "data.datasets['a'] is not a table",
        ),
        ('{"status": "running", "held_out": [], "frozen_loras": [{"name": "a"}]}', "frozen_loras[0].sha256 is missing"),
    ],
)
def test_a_status_that_is_not_ours_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError) as error:
        RunFolder(tmp_path).status()
    assert message(error.value, tmp_path) == (
        f"TMP/run.json: is not the status of a run: {what}\n"
        "    Restore it, or start over in that folder, which removes its checkpoints, with checkpoints.no_resume = true."
    )
    assert check_free(RunFolder(tmp_path), "", "", WHERE, True) is False
    (tmp_path / "lora.safetensors").write_text("")
    with pytest.raises(CheckpointError, match=r"Restore it, or choose another output_dir\.$"):
        check_free(RunFolder(tmp_path), "", "", WHERE, True)


# ---------------------------------------------------------------- killed in its first writes


def test_what_a_kill_in_the_first_writes_leaves_is_free(tmp_path: Path) -> None:
    (tmp_path / ".run.123-456.unfinished.toml").write_text("half")
    (tmp_path / ".DS_Store").write_text("")
    assert check_free(RunFolder(tmp_path), "", "", WHERE, False) is False
    (tmp_path / "run.toml").write_text(f"{HEADER}\nseed = 1\n")
    (tmp_path / "metrics.jsonl").write_text("")
    assert check_free(RunFolder(tmp_path), "", (tmp_path / "run.toml").read_text(), WHERE, False) is False


def test_a_run_file_that_no_run_wrote_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("seed = 1\n")
    assert "holds files that no run wrote" in refusal(RunFolder(tmp_path))


def test_a_status_without_its_run_file_starts_over_unless_something_was_saved(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out")
    folder.run_file.unlink()
    assert check_free(folder, "seed = 2", "", WHERE, False) is False
    (folder.checkpoints / "step_000002").mkdir(parents=True)
    (folder.checkpoints / "step_000002" / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError) as error:
        check_free(folder, "seed = 2", "", WHERE, False)
    assert message(error.value, tmp_path) == (
        "TMP/out/run.toml: this file is missing, so it is unknown which run this is\n"
        "    Restore this file, or resume with the run file that you gave: --allow-changes"
    )


def test_checkpoints_without_a_status_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "out", f"{HEADER}\nseed = 1\n")
    folder.remove_status()
    (folder.checkpoints / "step_000002").mkdir(parents=True)
    (folder.checkpoints / "step_000002" / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="although there are weights of a run; it is unknown how far that run got"):
        check_free(folder, "", "", WHERE, False)
    assert check_free(folder, "", "", WHERE, True) is False


# ---------------------------------------------------------------- folders that cannot be written


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/dev/null/x", "/dev/null is there, not a folder"),
        ("TMP/file/below/it", "TMP/file is a file, not a folder"),
        ("TMP/a\0b", "'TMP/a\\x00b' is not a valid folder name: embedded null byte"),
        (f"TMP/none/{'n' * 300}", f"{'n' * 60}... is too long a name for a folder"),
        ("TMP/loop/out", "'TMP/loop/out' is not a valid folder name: Too many levels of symbolic links"),
    ],
)
def test_a_path_that_can_be_no_folder_is_said_at_its_line(tmp_path: Path, path: str, what: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal_of(tmp_path, path.replace("TMP", str(tmp_path))) == f"{WHERE}: {what}\n    Choose another output_dir."


def refusal_of(tmp_path: Path, path: str) -> str:
    with pytest.raises(ConfigError) as error:
        check_writable(Path(path), WHERE)
    return message(error.value, tmp_path)


def test_a_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    assert "is not a valid folder name: File name too long" in refusal_of(tmp_path, str(tmp_path) + "/deep" * 1000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="acts as another user in a process of its own")
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_cannot_be_written_is_said_at_its_line(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    told = as_nobody(lambda: refusal_of(tmp_path, str(out if there else out / "below" / "it")))
    assert told == f"{WHERE}: TMP/out cannot be written: it belongs to another user, or is protected\n    Choose another output_dir."


def test_a_folder_that_can_be_made_or_written_is_in_order(tmp_path: Path) -> None:
    check_writable(tmp_path, WHERE)
    check_writable(tmp_path / "a" / "b", WHERE)
    (tmp_path / "link").symlink_to(tmp_path)
    check_writable(tmp_path / "link" / "c", WHERE)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` gives for a user that may write nowhere; permissions do not hold for root."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        if os.getuid() == 0:
            os.setresuid(65534, 65534, 65534)
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as said:
        return said.read().decode()


def said(folder: Path, **checkpoints: object) -> str:
    (folder / "data").mkdir(exist_ok=True)
    run = tables(folder / "data", folder / "out", **({"checkpoints": checkpoints} if checkpoints else {}))
    return goes_on(load_run(write_run(folder, run)).config).replace(str(folder), "TMP")


def save(folder: Path, step: int, *files: str) -> None:
    path = folder / "out" / "checkpoints" / f"step_{step:06d}"
    path.mkdir(parents=True)
    for name in files:
        (path / name).touch()
    (path / "manifest.json").write_text(json.dumps({"step": step, "files": {}}))


def test_a_run_goes_on_after_its_newest_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 20, "state.safetensors")
    save(tmp_path, 40, "state.safetensors")
    assert said(tmp_path) == "The same command resumes after step 40, the last one saved."
    assert said(tmp_path, no_resume=True) == "The same command starts over, because checkpoints.no_resume is set."


def test_a_run_that_saved_nothing_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoints" / "step_000020").mkdir(parents=True)  # half of one
    assert said(tmp_path, interval=20) == "Nothing was saved yet, so the same command starts over."
    assert said(tmp_path) == (
        "Nothing was saved yet, so the same command starts over. With checkpoints.interval, a run saves its state at regular intervals."
    )


def test_a_run_that_keeps_no_state_says_where_its_weights_are(tmp_path: Path) -> None:
    save(tmp_path, 20, "lora.safetensors")
    assert said(tmp_path, save_training_state="off") == (
        'The run keeps no training state (save_training_state = "off"), so it cannot be resumed; its last weights are in TMP/out/checkpoints/step_000020.'
    )
