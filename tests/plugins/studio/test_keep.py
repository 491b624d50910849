"""A generated sample becomes a validation sample: the run file keeps everything else, and the change is seen before it is written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.made_run import HOSTILE
from helpers.studio_browser import WIDTHS, Served, faults, needs_browser, opened, served
from ltxcore.api import LtxError
from ltxcore.api.config import parsed_toml
from ltxplugins.studio.jobs import write_json
from ltxplugins.studio.try_out.conditions import Row
from ltxplugins.studio.try_out.form import Form
from ltxplugins.studio.try_out.keep import change_of, left_out
from ltxplugins.studio.workspace import Workspace

FORM = Form(
    {"prompt": HOSTILE.strip(), "width": "64", "height": "32", "frames": "17", "seed": "7", "inference_steps": "8"},
    conditions=(Row("first_frame", file="media/a.png"), Row("other", keys="type=hole,length=0.5,modality=audio")),
)
SAMPLE = {
    "prompt": HOSTILE.strip(),
    "seed": 7,
    "video_dims": [64, 32, 17],
    "conditions": [{"type": "first_frame", "image_or_video": "../media/a.png"}, {"type": "hole", "length": 0.5, "modality": "audio"}],
}
FILES = {
    "tables": "# mine\nseed = 1\n\n[validation] # here\ninterval = 5  # five\n\n[[validation.samples]]\nprompt = 'one' # first\n\n[hub]\nx = 1 # end\n",
    "none": "seed = 1\n[validation]\ninterval = 5\n\n[hub]\nx=1\n",
    "no table": "seed = 1\n[hub]\nx=1",
    "an array": "[validation]\nsamples = [\n  { prompt = 'one' }, # c\n  { prompt = 'two' },\n]\ninterval=5\n[hub]\n",
    "an empty array": "[validation]\nsamples = []\ninterval = 5\n[hub]\nx=1\n",
    "inline": "validation = { interval = 5 }\nseed = 1\n",
    "another table inside": "[validation]\ninterval = 3\n[validation.x]\ny=1\n",
    "other ends of lines": "[[validation.samples]]\r\nprompt='one'\r\n[hub]\r\nx=1 # c\r\n",
}


@pytest.mark.parametrize("before", FILES.values(), ids=FILES)
def test_the_sample_is_added_and_every_other_line_stays(tmp_path: Path, before: str) -> None:
    (folder := tmp_path / "runs").mkdir()
    (folder / "run.toml").write_bytes(before.encode())
    change = change_of(Workspace(tmp_path), "runs/run.toml", FORM)
    change.write(change.mark)
    after = (folder / "run.toml").read_bytes().decode()
    assert parsed_toml(after, folder)["validation"]["samples"][-1] == SAMPLE
    gone = {line[2:].strip() for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("- ")}
    assert gone <= {"samples = []", "validation = { interval = 5 }"}
    assert ("\r\n" in after) == ("\r\n" in before)
    assert "\n" not in after.replace("\r\n", "") or "\r\n" not in before


def test_a_file_that_was_changed_since_is_not_written(tmp_path: Path) -> None:
    run_file = tmp_path / "run.toml"
    run_file.write_text("seed = 1\n")
    mark = change_of(Workspace(tmp_path), "run.toml", FORM).mark
    run_file.write_text("seed = 2\n")
    with pytest.raises(LtxError, match="was changed since"):
        change_of(Workspace(tmp_path), "run.toml", FORM).write(mark)
    assert run_file.read_text() == "seed = 2\n"


@pytest.mark.parametrize("text", ["seed = ", "validation = 1\n", "[validation]\nsamples = 1\n"])
def test_a_file_that_cannot_take_a_sample_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(LtxError):
        change_of(Workspace(tmp_path), "run.toml", FORM)
    with pytest.raises(LtxError):
        change_of(Workspace(tmp_path), "../run.toml", FORM)


def test_what_is_not_of_a_sample_is_named() -> None:
    assert list(left_out(FORM.changed(negative_prompt="grey"))) == ["Steps", "Negative prompt"]


# ---- in a browser


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "run.toml").write_text("seed = 1 # mine\n\n[training_strategy]\nname = 'flexible'\n")
    with served(tmp_path) as found:
        jobs = found.app.state.studio.jobs
        job = jobs.add("sample", HOSTILE, ["sample"], {"prompt": HOSTILE, "seed": 7, "loras": [], "settings": FORM.fields(), "output": "s"})
        write_json(job.folder / "process.json", {"pid": 0, "created": 0, "at": 0})
        write_json(job.folder / "end.json", {"status": 0, "at": 1})
        yield found


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_change_is_shown_before_it_is_written(browser: Any, studio: Served, tmp_path: Path, width: int) -> None:
    with opened(browser, studio, width) as page:
        page.goto(f"{studio.address}/try")
        page.get_by_role("link", name="Make this a validation sample").click()
        page.get_by_role("heading", name="The change of run.toml").wait_for()
        assert "+ [[validation.samples]]" in page.locator(".change").inner_text()
        assert page.get_by_text("The run file has no samples yet").is_visible()
        assert faults(page) == []
        assert "validation" not in (tmp_path / "run.toml").read_text()
        page.get_by_role("button", name="Write it into run.toml").click()
        page.get_by_text("run.toml now has this sample").wait_for()
        assert page.title() == "Make a validation sample – ltx studio"
    text = (tmp_path / "run.toml").read_text()
    assert text.startswith("seed = 1 # mine\n")
    assert parsed_toml(text, tmp_path)["validation"]["samples"][0]["prompt"] == HOSTILE.strip()
