"""Progress on the console: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ltxcore.registry import load
from ltxplugins.trackers.console import Console


def metrics(loss: float) -> dict[str, float]:
    return {"loss": loss, "learning_rate": 1e-3, "step_seconds": 0.5}


def test_the_console_tracker_is_registered_under_its_name() -> None:
    assert load().get("tracker", "console").value is Console


def test_where_there_is_no_terminal_every_few_steps_are_a_line_and_so_is_the_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ltx")
    tracker = Console(every=2)
    tracker.start(tmp_path, {}, 5, 0)
    tracker.log(0, {"held_out/own_context/clips": 3.0})
    for step in range(1, 6):
        tracker.log(step, metrics(1.0))
    tracker.sample(5, "clip", tmp_path / "one.wav")
    tracker.finish()
    assert caplog.messages == [
        "step 2/5  loss 1.0000  lr 1.00e-03  0.500 s/step  2 s left",
        "step 4/5  loss 1.0000  lr 1.00e-03  0.500 s/step  0 s left",
        "step 5/5  loss 1.0000  lr 1.00e-03  0.500 s/step  0 s left",
    ]


def test_the_shown_loss_is_smoothed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ltx")
    tracker = Console(every=1)
    tracker.start(tmp_path, {}, 2, 0)
    tracker.log(1, metrics(1.0))
    tracker.log(2, metrics(2.0))
    assert "loss 1.0500" in caplog.messages[1]


def test_on_a_terminal_there_is_a_bar_with_step_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    tracker = Console()
    tracker.start(tmp_path, {}, 4, 2)
    tracker.log(3, metrics(1.0))
    tracker.finish()
    said = capsys.readouterr().err
    assert "2/4" in said or "3/4" in said
    assert "loss 1.0000" in said


def test_lines_every_zero_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^every is 0; it must be at least 1$"):
        Console(every=0)
