"""The screen of the runs: the queue, what is found in the folder, and a page for each run, in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.engine_modes import zero
from helpers.launches import ENVIRONMENT, UNCHECKED
from helpers.made_run import HOSTILE, made_run, media, metrics
from helpers.studio_browser import LOOKS, Served, faults, needs_browser, opened, served
from helpers.training_runs import sound_set, tables, write_run
from ltxplugins.studio.jobs import read_json

pytestmark = needs_browser


def hostile_run(folder: Path, name: str) -> Path:
    run = made_run(folder / name, status="stopped", lines=metrics(held_out=(1.0, 0.7, 0.5)))
    with (run / "metrics.jsonl").open("a") as file:
        for line in media(run, (HOSTILE,)):
            file.write(json.dumps(line) + "\n")
        half = {f"half_width_95/held_out/own_context/video/sigma_{sigma}": 0.05 for sigma in ("0.30", "0.60", "0.90")}
        for step in (0, 100, 200):
            file.write(json.dumps({"step": step, **half}) + "\n")
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    hostile_run(folder / "outputs", "dance")
    made_run(folder / "outputs" / "walk")
    (folder / "broken.toml").write_text('[optimization]\nsteps = "many"\n[training_strategy]\nname = "<img src=x>"\n')
    return folder


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Served]:
    with served(folder) as found:
        yield found


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_the_list_and_the_page_of_a_run_are_readable(browser: Any, studio: Served, tmp_path: Path, width: int, colours: str) -> None:
    with opened(browser, studio, width, color_scheme=colours) as page:
        for name, address in (("runs", "/runs"), ("run", "/runs/show?run=outputs/dance")):
            page.goto(studio.address + address)
            page.screenshot(path=tmp_path / f"{name}-{width}-{colours}.png", full_page=True)
            assert faults(page) == [], name


def test_names_and_captions_are_text(browser: Any, folder: Path, studio: Served) -> None:
    made_run(folder / "outputs" / '"><img src=x onerror=alert(1)>')
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/runs")
        page.get_by_role("link", name='outputs/"><img src=x onerror=alert(1)>').first.click()
        assert page.locator("h1").inner_text() == 'outputs/"><img src=x onerror=alert(1)>'
        page.goto(f"{studio.address}/runs/show?run=outputs/dance")
        assert page.locator(".samples p").first.text_content() == HOSTILE
        assert page.title().startswith("outputs/dance")


def test_the_curves_say_what_they_show_and_change_with_the_switches(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/runs/show?run=outputs/dance")
        loss = page.get_by_role("img", name="Training loss. video: ")
        assert "at step 1, " in loss.get_attribute("aria-label")
        before = loss.locator("path").evaluate_all("all => all.map(each => each.getAttribute('d')).join()")
        assert page.get_by_role("img", name="Validation loss. video: 1 at step 0").locator(".band").count() == 1
        page.get_by_label("Logarithmic losses").check()
        expect(page.locator("#curves")).to_have_attribute("data-poll", "/runs/curves?run=outputs/dance&log=1")
        expect(loss.locator("path").first).not_to_have_attribute("d", before.split(",")[0])
        page.get_by_label("Every value, not smoothed").check()
        expect(loss.locator(".faint")).to_have_count(0)
        page.get_by_text("Numbers of Training loss").click()
        assert page.get_by_role("row", name="200").first.is_visible()


def test_samples_play_newest_first_and_with_sound(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/runs/show?run=outputs/dance")
        assert page.locator("#samples h3").all_inner_texts() == ["Step 200", "Before training"]
        film = page.locator("#samples video").first
        film.evaluate("film => film.play()")
        page.wait_for_function("film => film.currentTime > 0.1 && film.webkitAudioDecodedByteCount > 0", arg=film.element_handle())


def test_a_run_is_started_stopped_and_resumed(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    folder = tiny(tmp_path, steps=4000)
    with served(folder) as studio, opened(browser, studio) as page:
        page.goto(f"{studio.address}/runs")
        page.get_by_role("button", name="Add to the queue").click()
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("link", name="Curves and samples").click()
        page.wait_for_url("**/runs/show?run=out")
        expect(page.locator("#facts .state")).to_have_text("running")
        expect(page.get_by_role("img", name="Training loss.")).to_be_visible()
        expect(page.locator("#facts")).to_contain_text("left")
        page.get_by_role("button", name="Stop after this step").click()
        expect(page.locator("#facts .state")).to_have_text("stopped")
        expect(page.locator("#log")).to_contain_text("Resume with")
        first = studio.app.state.studio.jobs.all()[0]
        assert first.state == "stopped"
        done = page.locator("#facts progress").evaluate("each => each.value")
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#facts .state")).to_have_text("running")
        page.wait_for_function("done => document.querySelector('#facts progress').value > done", arg=done)
        page.get_by_role("button", name="Stop after this step").click()
        expect(page.locator("#facts .state")).to_have_text("stopped")
        expect(page.locator("#log")).to_contain_text("resuming after step")


@pytest.mark.slow
def test_a_run_of_two_processes_is_started_stopped_resumed_and_killed(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=120_000)
    for name, value in {**ENVIRONMENT, **UNCHECKED}.items():
        monkeypatch.setenv(name, value)
    folder = tiny(tmp_path, steps=4000, engine=zero(tmp_path, 2))
    with served(folder) as studio, opened(browser, studio) as page:
        page.set_default_timeout(120_000)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"{studio.address}/runs")
        page.get_by_label("GPUs").fill("2")
        page.get_by_role("button", name="Add to the queue").click()
        expect(page.locator("#queue")).to_contain_text("2 GPUs")
        page.get_by_role("link", name="Curves and samples").click()
        page.wait_for_function("() => document.querySelector('#facts progress')?.value > 0")
        page.get_by_role("button", name="Stop after this step").click()
        expect(page.locator("#facts .state")).to_have_text("stopped")
        expect(page.locator("#log")).to_contain_text("ltx launch --num-gpus 2")
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#log")).to_contain_text("resuming after step")
        job = studio.app.state.studio.jobs.all()[-1]
        assert job.arguments == ("launch", str(folder / "out" / "run.toml"), "--num-gpus", "2")
        command = psutil.Process(read_json(job.folder / "process.json")["pid"])
        processes = command.children(recursive=True)
        command.kill()
        expect(page.locator("#facts .problems")).to_contain_text("Its process was killed")
        assert [process for process in processes if process.is_running()] == []
        page.get_by_role("button", name="Resume").wait_for()


def test_a_run_that_fails_says_why(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    folder = tiny(tmp_path, steps=2)
    (folder / "run.toml").write_text((folder / "run.toml").read_text().replace("tiny-untrained", "<b>nowhere</b>.safetensors"))
    with served(folder) as studio, opened(browser, studio) as page:
        page.goto(f"{studio.address}/runs")
        page.get_by_role("button", name="Add to the queue").click()
        page.get_by_role("link", name="run.toml").click()
        expect(page.locator("#job .state")).to_have_text("failed", timeout=60_000)
        expect(page.locator("#job .problems pre")).to_contain_text("<b>nowhere</b>.safetensors")
        assert faults(page) == []


def tiny(folder: Path, steps: int, **changed: Any) -> Path:
    """A folder with a dataset of sounds and a run file for the tiny model."""
    sound_set(folder / "data", 8)
    table = tables(folder / "data", Path("out"), optimization={"steps": steps, "batch_size": 2}, **changed)
    table["validation"] = {"inference_steps": 2, "interval": 0, "samples": []}
    write_run(folder, table)
    return folder
