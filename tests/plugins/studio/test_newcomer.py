"""A newcomer's whole way, from a folder of clips on their disk to a sample that is heard and a LoRA that ComfyUI reads, in a browser alone.

With LTX_PICTURES=FOLDER, the pictures of the documentation are written there: `docs/how-to/studio`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from helpers.studio_browser import Served, faults, needs_browser, opened, served
from ltxcore.cli.main import main

BUSY = 600_000
"""How long a step may take on a machine that does other things too, in milliseconds."""
CLIPS, STEPS = 8, 12


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips with captions in text files, as a newcomer has them."""
    demo, folder = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("disk")
    done = CliRunner().invoke(main, ["new", "t2v", "--demo", str(demo), "--output", str(demo / "t2v.toml")])
    assert done.exit_code == 0, done.output
    for line in (demo / "media" / "clips.jsonl").read_text().splitlines()[:CLIPS]:
        row = json.loads(line)
        clip = demo / "media" / row["video"]
        (folder / clip.name).write_bytes(clip.read_bytes())
        (folder / f"{clip.stem}.txt").write_text(row["caption"])
    return folder


class Pictures:
    """Takes a picture of each screen, and keeps it."""

    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.folder = page, folder

    def take(self, name: str) -> None:
        assert faults(self.page) == [], name
        self.page.evaluate("scrollTo(0, 0)")
        taken = self.folder / f"{name}.png"
        self.page.screenshot(path=taken)
        with Image.open(taken) as picture:
            assert len(picture.convert("RGB").getcolors(2**24)) > 50  # not an empty page
            picture.save(taken.with_suffix(".webp"), quality=80, method=6)
        taken.unlink()


@needs_browser
@pytest.mark.slow
def test_a_newcomer_goes_from_a_folder_of_clips_to_a_sample_that_is_heard_and_an_exported_lora(
    browser: Any, disk: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = Path(os.environ.get("LTX_PICTURES") or tmp_path_factory.mktemp("pictures"))
    kept.mkdir(parents=True, exist_ok=True)
    (project := tmp_path / "my-project").mkdir()
    with served(project) as studio, opened(browser, studio) as page:
        page.set_default_timeout(BUSY)
        pictures = Pictures(page, kept)
        bring_clips(page, studio, disk, pictures)
        make_run_file(page, studio, pictures)
        train(page, studio, pictures)
        generate(page, studio, pictures)
        compare(page, studio, pictures)
        export(page, studio, pictures)
    with safe_open(next(project.glob("exports/*.comfyui.safetensors")), "pt") as file:
        assert any("lora" in name for name in file.keys())  # noqa: SIM118 (it is no mapping)
    assert {path.name for path in kept.iterdir()} == {f"{name}.webp" for name in ("data", "run-file", "runs", "try", "compare", "export")}


def bring_clips(page: Any, studio: Served, disk: Path, pictures: Pictures) -> None:
    page.goto(f"{studio.address}/data")
    page.get_by_text("Add files").click()
    page.get_by_label("Files", exact=True).set_input_files(sorted(disk.iterdir()))
    page.get_by_label(f"Caption of {sorted(disk.glob('*.mp4'))[0].name}").wait_for()
    page.goto(f"{studio.address}/data?data=clips")
    page.wait_for_function("count => document.querySelectorAll('.clip .facts').length >= Math.min(count, 4)", arg=CLIPS)
    page.wait_for_function("() => [...document.querySelectorAll('.clip img')].slice(0, 4).every(each => each.naturalWidth > 0)")
    pictures.take("data")


def make_run_file(page: Any, studio: Served, pictures: Pictures) -> None:
    page.goto(f"{studio.address}/run-file/new")
    page.locator("input[value=t2v]").check()
    page.locator("#as").fill("first.toml")
    page.locator("#model").select_option("tiny")
    page.locator("#data").fill("clips")
    page.locator("#make").click()
    page.get_by_role("link", name="Open first.toml").click()
    text = page.locator("#text")
    lines = [f"steps = {STEPS}" if line.startswith("steps = ") else line for line in text.input_value().splitlines()]
    text.fill("\n".join(line for line in lines) + "\n")
    page.wait_for_function("() => !document.querySelector('#faults .problems')")
    page.locator("#gpu").select_option("4090")
    page.locator("#plan").get_by_text("It fits").wait_for()
    pictures.take("run-file")
    page.get_by_role("button", name="Start this run").click()
    page.wait_for_url("**/runs**")


def train(page: Any, studio: Served, pictures: Pictures) -> None:
    page.get_by_role("link", name="Curves and samples").click()
    page.wait_for_url("**/runs/show**")
    page.locator("#facts .state").get_by_text("finished").wait_for()
    page.wait_for_function("() => document.querySelectorAll('video').length >= 2")
    pictures.take("runs")


def generate(page: Any, studio: Served, pictures: Pictures) -> None:
    page.goto(f"{studio.address}/try")
    lora = page.get_by_label("A LoRA of the opened folder")
    lora.select_option(index=1)
    page.locator("#try-add").click()
    page.get_by_text("The settings are those of the run").wait_for()
    page.get_by_label("Prompt", exact=True).fill("a red square sways slowly")
    page.get_by_label("Preset").select_option("distilled")
    page.get_by_role("button", name="Generate", exact=True).click()
    video = page.locator("#try-history video").first
    video.wait_for()
    video.evaluate("video => video.play()")
    page.wait_for_function("film => film.currentTime > 0.1 && film.webkitAudioDecodedByteCount > 0", arg=video.element_handle())
    pictures.take("try")


def compare(page: Any, studio: Served, pictures: Pictures) -> None:
    page.goto(f"{studio.address}/compare")
    page.locator("#choose input[name=run]").first.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    for column in page.locator("#choose input[name=column]").all():
        column.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('.grid video').length >= 3")
    pictures.take("compare")


def export(page: Any, studio: Served, pictures: Pictures) -> None:
    page.goto(f"{studio.address}/export")
    page.get_by_label("comfyui").check()
    page.wait_for_function("() => document.querySelector('#export-file').value.includes('comfyui')")
    page.get_by_role("button", name="Export", exact=True).click()
    page.get_by_role("link", name="comfyui.safetensors").wait_for()
    pictures.take("export")
