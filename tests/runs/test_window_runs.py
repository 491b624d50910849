"""A run on windows of raw clips: the check counts them, the first run encodes them, and a resumed run goes on with those it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.raw_media import clip_file
from helpers.training_runs import STOPPER, tables, write_run
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.encoded.held_out import origin_of
from ltxcore.engines.process import Processes
from ltxcore.runs.checks import check_run
from ltxcore.runs.first_encoding import begun_with
from ltxcore.runs.run_plan import draft, encoded_so_far
from ltxcore.train.start_run import run


def run_of(folder: Path, buckets: str = "64x64x9", **changed: Any) -> LoadedRun:
    table = tables(
        folder,
        folder / "out",
        model={"model_path": "tiny"},
        training_strategy={"video": {"is_generated": True, "latents_dir": "latents"}},
        lora={"target_modules": ["attn1.to_q"]},
        optimization={"steps": 2, "batch_size": 1},
        validation={"skip_initial_validation": True},
        preprocessing={"resolution_buckets": buckets, "windows": "stride:12"},
        **changed,
    )
    del table["training_strategy"]["audio"]
    table["data"] = {"dataset": str(folder / "clips"), "held_out": 2, "num_dataloader_workers": 0}
    return load_run(write_run(folder, table))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clips of 1, 2 and 3 windows."""
    for number in range(3):
        clip_file(tmp_path / f"clips/{number}.mp4", sound=False, seed=number, frames=9 + 12 * number)
        (tmp_path / f"clips/{number}.txt").write_text(f"clip {number}")
    return tmp_path


def test_the_check_counts_windows_and_the_first_run_encodes_them(folder: Path) -> None:
    ahead = check_run(run_of(folder))
    assert f'{folder / "clips"}: 3 clips become 6 windows (windows = "stride:12")' in ahead.notes
    assert ahead.samples == f"6, not encoded yet; the first run encodes {folder / 'clips'}"
    assert not list(folder.glob("clips.precomputed/*/*"))
    (folder / "stopper.py").write_text(STOPPER)
    stops = {"plugins": ["stopper.py"], "trackers": {"stopper": {"at": 1}}}
    assert not run(run_of(folder, **stops), processes=Processes()).finished
    begun = run_of(folder, **stops)
    outline = draft(begun).checked()
    names = ("0", "1", "1@000012", "2", "2@000012", "2@000024")
    assert begun_with(outline, folder / "clips", None) == names
    assert encoded_so_far(outline, folder / "clips") == names
    (folder / "clips/3.mp4").write_bytes((folder / "clips/2.mp4").read_bytes())  # a clip that the run did not begin with
    (folder / "clips/3.txt").write_text("later")
    assert any("1 row is left out, because this run began with the other 3" in note for note in check_run(begun).notes)
    assert run(begun, processes=Processes()).finished
    assert not (folder / "clips.precomputed/latents/3.safetensors").exists()
    plan = check_run(run_of(folder, output_dir=str(folder / "other"))).plan
    assert plan is None, "the fourth clip is still to be encoded"
    (folder / "clips/3.mp4").unlink()
    plan = check_run(run_of(folder, output_dir=str(folder / "other"))).plan
    assert plan is not None
    assert (plan.manifest.samples, plan.split.held_out) == (names, ("0",)), (
        "the two windows of one clip, or the three of another, stay together"
    )
    assert {origin_of(plan.manifest, name) for name in plan.split.train} == {"1.mp4", "2.mp4"}


def test_clips_keep_the_buckets_that_were_chosen_for_a_run_in_it_and_in_later_ones(folder: Path) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    stops = {"plugins": ["stopper.py"], "trackers": {"stopper": {"at": 1}}}
    assert not run(run_of(folder, "auto:16", **stops), processes=Processes()).finished
    latents = folder / "clips.precomputed/latents"
    begun = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in latents.glob("*.safetensors")}
    clip_file(folder / "clips/3.mp4", sound=False, width=64, height=128, frames=5)
    (folder / "clips/3.txt").write_text("later, shorter, and upright")
    assert run(run_of(folder, "auto:16", **stops), processes=Processes()).finished
    assert {path.name for path in latents.glob("*.safetensors")} == {*begun}
    again = run_of(folder, "auto:16", output_dir=str(folder / "other"))
    assert any("64x128x1 is for clips of new sizes" in note for note in check_run(again).notes)
    assert run(again, processes=Processes()).finished
    now = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in latents.glob("*.safetensors")}
    assert now.keys() - begun.keys() == {"3.safetensors"}
    assert {name: now[name] for name in begun} == begun
