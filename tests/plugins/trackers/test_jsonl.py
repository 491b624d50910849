"""`metrics.jsonl`: a line at once, and a file that goes on where a run does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ltxcore.registry import load
from ltxplugins.trackers.jsonl import Jsonl


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def started(folder: Path, first_step: int = 0) -> Jsonl:
    tracker = Jsonl()
    tracker.start(folder, {}, 10, first_step)
    return tracker


def test_the_jsonl_tracker_is_registered_under_its_name() -> None:
    assert load().get("tracker", "jsonl").value is Jsonl


def test_a_line_is_there_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.log(1, {"loss": 0.5})
    tracker.sample(1, "clip", tmp_path / "samples" / "one.wav")
    assert lines(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 1, "sample": "clip", "path": "samples/one.wav"}]
    tracker.finish()
    tracker.finish()


def test_a_run_that_goes_on_drops_the_steps_it_will_do_again_and_a_line_that_was_cut_off(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": float(step)})
    tracker.finish()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    again = started(tmp_path, first_step=2)
    again.log(3, {"loss": 30.0})
    again.finish()
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 30.0}]


def test_a_run_that_starts_over_starts_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    started(tmp_path).finish()
    assert lines(tmp_path) == []


def test_logging_before_the_start_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match=r"^the tracker has not been started$"):
        Jsonl().log(1, {})
