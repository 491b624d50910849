"""The command that resumes a stopped run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltxcore.config.kept_weights import CheckpointsTable
from ltxcore.train.outcome import resuming

RUN_FILE = Path("out/run.toml")


def test_a_run_is_resumed_by_the_run_file_in_its_folder_with_as_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert resuming(CheckpointsTable(), 1, RUN_FILE) == "ltx run out/run.toml"
    assert resuming(CheckpointsTable(), 2, RUN_FILE) == "ltx launch --num-gpus 2 out/run.toml"


@pytest.mark.parametrize("here", ["2", None])
def test_processes_on_several_machines_are_not_started_by_one_command(here: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if here is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert resuming(CheckpointsTable(), 4, RUN_FILE) == ""


@pytest.mark.parametrize("table", [CheckpointsTable(no_resume=True), CheckpointsTable(save_training_state="off")])
def test_a_run_that_cannot_be_resumed_has_no_such_command(table: CheckpointsTable) -> None:
    assert resuming(table, 1, RUN_FILE) == ""
