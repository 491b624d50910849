"""The screen that compares: what is a column and a row, and the grid that plays in step in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.made_run import HOSTILE, made_run, media, metrics
from helpers.studio_browser import LOOKS, Served, faults, needs_browser, opened, served
from ltxcore.media.probe import write_clip
from ltxcore.protocols import Clip
from ltxplugins.studio.compare.difference import Line, difference
from ltxplugins.studio.jobs import write_json


def with_samples(folder: Path, names: tuple[str, ...], **changed: Any) -> Path:
    run = made_run(folder, lines=metrics(held_out=(1.0, 0.6)), **changed)
    with (run / "metrics.jsonl").open("a") as file:
        for line in media(run, names):
            file.write(json.dumps(line) + "\n")
        half = {f"half_width_95/held_out/own_context/video/sigma_{sigma}": 0.0125 for sigma in ("0.30", "0.60", "0.90")}
        file.write(json.dumps({"step": 200, **half}) + "\n")
    return run


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("compare")
    with_samples(folder / "outputs" / "dance", ("a red disc", HOSTILE))
    with_samples(folder / "outputs" / "walk", ("a red disc",), optimization={"learning_rate": 0.0005}, lora={"rank": 8})
    with served(folder) as found:
        studio = found.app.state.studio
        for strength in (0.5, 1.0):
            output = f"samples/at-{strength}"
            (folder / output).mkdir(parents=True)
            write_clip(folder / output / "sample.mp4", Clip(torch.full((9, 64, 64, 3), int(200 * strength), dtype=torch.uint8), 16.0), None)
            about = {
                "prompt": "a red disc",
                "seed": 42,
                "loras": [["<b>dance</b>.safetensors", strength]],
                "settings": {},
                "output": output,
            }
            job = studio.jobs.add("sample", "a red disc", ["--version"], about)
            write_json(job.folder / "end.json", {"status": 0, "at": 1.0})
        yield found


BOTH = "/compare?run=outputs/dance&run=outputs/walk"


@needs_browser
@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_the_comparison_is_readable(browser: Any, studio: Served, tmp_path: Path, width: int, colours: str) -> None:
    with opened(browser, studio, width, color_scheme=colours) as page:
        page.goto(studio.address + BOTH)
        page.wait_for_function("() => [...document.querySelectorAll('.cell')].every(each => each.readyState > 1)")
        page.screenshot(path=tmp_path / f"compare-{width}-{colours}.png", full_page=True)
        assert faults(page) == []


@needs_browser
def test_all_samples_play_in_step_with_the_sound_of_one(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        page.goto(studio.address + BOTH)
        page.wait_for_function("() => [...document.querySelectorAll('.cell')].every(each => each.readyState > 1)")
        assert page.locator(".cell").count() > 2
        assert page.evaluate("[...document.querySelectorAll('.cell')].every(each => each.muted)")
        page.get_by_role("slider", name="Position").fill("0.25")
        times = "[...document.querySelectorAll('.cell')].map(each => each.currentTime)"
        page.wait_for_function(f"() => {times}.every(each => Math.abs(each - 0.25) < 0.002)")
        page.get_by_role("button", name="Forward a frame").click()
        page.wait_for_function(f"() => {times}.every(each => Math.abs(each - 0.25 - 1 / 24) < 0.002)")
        page.get_by_role("button", name="Play", exact=True).click()
        page.wait_for_function("() => [...document.querySelectorAll('.cell')].every(each => each.played.length > 0)")
        page.get_by_role("button", name="Pause").click()
        page.wait_for_function(f"() => Math.max(...{times}) - Math.min(...{times}) < 0.002")
        page.keyboard.press("2")
        heard = "[...document.querySelectorAll('.cell')].flatMap((each, index) => each.muted ? [] : [index])"
        assert page.evaluate(heard) == [1]
        page.locator(".cell").first.click()
        assert page.evaluate(heard) == [0]
        assert page.locator(".hear[aria-pressed=true]").count() == 1
        page.keyboard.press("m")
        assert page.evaluate(heard) == []


@needs_browser
def test_runs_steps_and_strengths_are_columns_and_each_prompt_with_its_seed_a_row(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/compare?run=outputs/dance")
        columns = page.locator(".grid thead th")
        assert columns.all_inner_texts() == ["Prompt and seed", "outputs/dance\nbefore training", "outputs/dance\nstep 200"]
        page.get_by_label("outputs/walk").check()
        page.get_by_label("<b>dance</b>.safetensors at 0.5").check()
        page.get_by_label("<b>dance</b>.safetensors at 1").check()
        page.get_by_role("button", name="Compare", exact=True).click()
        page.wait_for_url("**run=outputs%2Fwalk**")
        assert columns.all_inner_texts()[-2:] == ["<b>dance</b>.safetensors at 0.5", "<b>dance</b>.safetensors at 1"]
        red = page.get_by_role("row", name="a red disc seed 42").first
        assert red.locator("video").count() == 4
        assert HOSTILE in page.locator(".grid .prompt").all_text_contents()


@needs_browser
def test_curves_validation_losses_and_run_files_stand_side_by_side(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        page.goto(studio.address + BOTH)
        curve = page.get_by_role("img", name="Training loss: video. outputs/dance: ")
        assert "outputs/walk: " in curve.get_attribute("aria-label")
        assert curve.locator(".curve").count() == 2
        losses = page.get_by_role("group", name="Validation losses")
        assert losses.get_by_role("row", name="video 0.60").locator("td").all_inner_texts() == ["0.60", "0.6 ± 0.0125", "0.6 ± 0.0125"]
        changed = page.locator(".differs tr.first, .differs tr.second").all_inner_texts()
        assert any("− first only" in line and "rank = 4" in line for line in changed)
        assert any("+ second only" in line and "rank = 8" in line for line in changed)


def test_a_difference_keeps_the_numbers_of_the_lines_and_leaves_equal_ones_out() -> None:
    one = "\n".join(f"line {number}" for number in range(1, 21))
    assert difference(one, one) == []
    found = difference(one, one.replace("line 10\n", "ten\nand more\n"))
    assert found == [
        Line("gap", ""),
        Line("same", "line 8", 8, 8),
        Line("same", "line 9", 9, 9),
        Line("first", "line 10", 10, 0),
        Line("second", "ten", 0, 10),
        Line("second", "and more", 0, 11),
        Line("same", "line 11", 11, 12),
        Line("same", "line 12", 12, 13),
    ]
