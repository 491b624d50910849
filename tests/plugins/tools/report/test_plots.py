"""Curves: which there are, and where their points lie."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.made_run import HOSTILE, made_run, metrics
from ltxcore.api.runs import Series, read_run
from ltxplugins.tools.report.plots import Line, Plot, condition_label, plots_of
from ltxplugins.tools.report.sections import curves
from ltxplugins.tools.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, figure


def test_a_run_has_a_picture_of_everything_that_it_logs(tmp_path: Path) -> None:
    found = {plot.title: [line.label for line in plot.lines] for plot in plots_of(read_run(made_run(tmp_path / "run")))}
    sigmas = ["sigma 0.00 to 0.25", "sigma 0.25 to 0.50", "sigma 0.50 to 0.75", "sigma 0.75 to 1.00"]
    conditions = [
        "mask on audio, applied",
        "mask on audio, not applied",
        "first_frame on video, applied",
        "first_frame on video, not applied",
    ]
    assert found == {
        "Training loss": ["total", "video", "audio"],
        "Validation loss, video": ["sigma 0.30", "sigma 0.60", "sigma 0.90"],
        "Validation loss, audio": ["sigma 0.30", "sigma 0.60", "sigma 0.90"],
        "Training loss by noise level, video": sigmas,
        "Training loss by noise level, audio": sigmas,
        "Training loss by condition, video": conditions,
        "Training loss by condition, audio": conditions,
        "Learning rate": ["learning rate"],
        "Gradient norm": ["gradient norm"],
        "Time per step": ["time per step"],
        "Tokens per second": ["tokens per second"],
        "Peak memory": ["peak memory"],
    }


def test_what_each_objective_adds_to_the_loss_is_a_picture_of_its_own(tmp_path: Path) -> None:
    lines = [{**line, "loss/slider": 0.5, "loss/slider/video": 2.0} if "loss" in line else line for line in metrics()]
    found = {plot.title: [line.label for line in plot.lines] for plot in plots_of(read_run(made_run(tmp_path / "run", lines=lines)))}
    assert found["Training loss by objective"] == ["slider"]
    assert [title for title in found if "slider" in title] == [], "it is no modality"
    assert found["Training loss"] == ["total", "video", "audio"]


def test_the_validation_loss_of_an_objective_is_a_picture_and_rows_beside_those_of_the_run(tmp_path: Path) -> None:
    told = {"held_out/slider/clips": 2.0, "held_out/slider/video/sigma_0.30": 0.25, "half_width_95/held_out/slider/video/sigma_0.30": 0.125}
    lines = [{**line, **told} if any(name.startswith("held_out") for name in line) else line for line in metrics()]
    found = read_run(made_run(tmp_path / "run", lines=lines))
    plots = {plot.title: [line.label for line in plot.lines] for plot in plots_of(found)}
    assert plots["Validation loss of slider"] == ["video, sigma 0.30"]
    assert plots["Validation loss, video"] == ["sigma 0.30", "sigma 0.60", "sigma 0.90"]
    assert "slider, video, sigma 0.30</th><td>0.2500</td><td>0.2500 ± 0.1250</td><td>–</td>" in curves(found)


def test_the_loss_of_each_set_is_a_line_of_a_picture_and_a_row(tmp_path: Path) -> None:
    told = {"loss/video/set_photos": 0.5, "held_out/own_context/video/sigma_0.30/set_photos": 0.25}
    record = read_run(made_run(tmp_path / "run", lines=[*metrics(), {"step": 1, **told}]))
    found = {plot.title: [line.label for line in plot.lines] for plot in plots_of(record)}
    assert found["Training loss by set, video"] == ["photos"]
    assert "Training loss by set, audio" not in found
    assert "video, sigma 0.30: photos</th>" in curves(record)


def test_a_condition_that_is_there_twice_has_a_number() -> None:
    assert condition_label("video.cond0.first_frame/applied") == "first_frame on video, applied"
    assert condition_label("audio.cond1.mask/not_applied") == "mask on audio (2), not applied"
    assert condition_label("audio.choice0.list1.cond0.mask/applied") == "mask on audio, choice 0, list 1, applied"
    assert condition_label("audio.choice0/one_of_1_mask") == "choice0 on audio, one of 1 mask"
    assert condition_label("caption_dropout/applied") == "caption_dropout, applied"
    assert condition_label("audio.caption_dropout/not_applied") == "caption_dropout on audio, not applied"


def test_points_lie_where_their_values_are() -> None:
    drawn = figure(Plot("Loss", "A note.", [Line("loss", Series((0, 50, 100), (2.0, 1.0, 0.0)))], from_zero=True))
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert [x for x, _ in dots] == pytest.approx([LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT], abs=0.1)
    heights = [y for _, y in dots]
    assert heights[2] == pytest.approx(HEIGHT - BOTTOM, abs=0.1)
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert TOP <= heights[0] < heights[1]


def test_titles_and_labels_are_escaped() -> None:
    drawn = figure(Plot(HOSTILE, HOSTILE, [Line(HOSTILE, Series((1, 2), (1.0, 2.0))), Line("b", Series((1,), (1.0,)))]))
    assert "<img" not in drawn
    assert drawn.count("<script") == 1
