"""From where a run that ended by itself goes on, as its message says it."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.training_runs import tables, write_run
from ltxcore.config.load import load_run
from ltxcore.runs.goes_on import goes_on


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
    assert said(tmp_path) == "The same command goes on after step 40, which was saved last."
    assert said(tmp_path, no_resume=True) == "The same command begins anew, since checkpoints.no_resume is set."


def test_a_run_that_saved_nothing_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoints" / "step_000020").mkdir(parents=True)  # half of one
    assert said(tmp_path, interval=20) == "Nothing of it was saved yet, so the same command begins anew."
    assert said(tmp_path) == (
        "Nothing of it was saved yet, so the same command begins anew. With checkpoints.interval, a run saves itself every so many steps."
    )


def test_a_run_that_keeps_no_state_says_where_its_weights_are(tmp_path: Path) -> None:
    save(tmp_path, 20, "lora.safetensors")
    assert said(tmp_path, save_training_state="off") == (
        'It keeps no training state (save_training_state = "off"), so it cannot go on; its last weights are in TMP/out/checkpoints/step_000020.'
    )
