"""The screen of the run file as a browser shows it: the text and the form in step, saved, and started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.studio_browser import WIDTHS, Served, faults, needs_browser, opened, served
from helpers.training_runs import sound_set, tables, write_run

pytestmark = needs_browser

HOSTILE = '"><img src=x onerror=document.title=1>'
TEXT = """\
# Text to video.
output_dir = "outputs/t2v"

[model]
model_path = "tiny"

[lora]
rank = 16   # capacity

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "first_frame", probability = 0.5 }]

[optimization]
steps = 300

[acceleration]
mixed_precision_mode = "no"

[data]
preprocessed_data_root = "encoded"

[preprocessing]
lora_trigger = '"><img src=x onerror=document.title=1>'
"""


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "encoded").mkdir()
    (tmp_path / "run.toml").write_text(TEXT)
    (tmp_path / f"{HOSTILE}.toml").write_text(TEXT.replace("300", "301"))
    with served(tmp_path) as found:
        yield found


def edit(page: Any, studio: Served, name: str = "run.toml") -> Any:
    page.goto(f"{studio.address}/run-file/edit?name={name}")
    return page.locator("#text")


def root(studio: Served) -> Path:
    return studio.app.state.studio.workspace.root


def says(page: Any, text: str | re.Pattern[str], where: str = "#state") -> None:
    from playwright.sync_api import expect

    expect(page.locator(where)).to_contain_text(text, timeout=60_000)


def opened_table(page: Any, name: str) -> None:
    page.locator(f"#form > details > summary:has(code:text-is('{name}'))").click()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_and_the_editor_are_readable(browser: Any, studio: Served, width: int) -> None:
    with opened(browser, studio, width, color_scheme="dark" if width == 390 else "light") as page:
        page.goto(f"{studio.address}/run-file")
        assert faults(page) == []
        assert page.get_by_role("link", name=HOSTILE).count() == 1
        text = edit(page, studio)
        text.evaluate("(element) => element.value.length")
        for name in ("model", "training_strategy", "optimization", "validation"):
            opened_table(page, name)
        page.locator("#form > details summary", has_text="video").first.click()
        assert faults(page) == []
        page.get_by_role("button", name="TOML").click() if width == 390 else None
        text.fill(TEXT.replace("rank = 16", "rank = 0\nrankk = 1"))
        says(page, "2 to fix", "#faults")
        assert faults(page) == []
        assert page.title() == "run.toml – ltx studio"


def test_a_mistake_is_shown_at_its_line_and_its_field(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        text = edit(page, studio)
        says(page, "No mistakes", "#faults")
        text.fill(TEXT.replace("rank = 16", "rank = 0"))
        says(page, "must be at least 1, not 0", "#faults")
        assert page.locator("#gutter .wrong").inner_text().strip() == "8"
        page.get_by_role("button", name="lora.rank").click()
        assert page.evaluate("document.activeElement.dataset.path") == '["lora", "rank"]'
        page.get_by_role("button", name="Line 8").click()
        assert text.evaluate("(element) => element.value.slice(element.selectionStart, element.selectionEnd)") == "rank = 0   # capacity"
        text.fill(TEXT.replace("[lora]", "[lora"))
        says(page, "is not TOML", "#faults")
        assert page.locator("#form-off").is_visible()
        assert page.locator("#form input").first.is_disabled()


def test_the_form_changes_the_text_and_the_text_the_form(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    with opened(browser, studio) as page:
        text = edit(page, studio)
        opened_table(page, "lora")
        rank, alpha = page.get_by_label("rank", exact=True), page.get_by_label("alpha", exact=True)
        rank.fill("64")
        rank.press("Tab")
        expect(text).to_have_value(TEXT.replace("rank = 16", "rank = 64"))
        alpha.fill("8")
        alpha.press("Enter")
        expect(text).to_have_value(TEXT.replace("rank = 16   # capacity", "rank = 64   # capacity\nalpha = 8"))
        page.get_by_role("button", name="Remove alpha from the file").click()
        expect(text).to_have_value(TEXT.replace("rank = 16", "rank = 64"))
        page.locator("#undo").click()
        page.locator("#undo").click()
        page.locator("#undo").click()
        expect(text).to_have_value(TEXT)
        expect(rank).to_have_value("16")
        text.fill(TEXT.replace("rank = 16", "rank = 24"))
        expect(rank).to_have_value("24")
        opened_table(page, "optimization")
        page.get_by_label("enable_gradient_checkpointing").check()
        expect(text).to_have_value(re.compile("\nenable_gradient_checkpointing = true\n"))


def test_a_condition_is_added_with_the_keys_of_its_kind(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    with opened(browser, studio) as page:
        text = edit(page, studio)
        page.locator("#filter").fill("conditions")
        page.locator("label:text-is('Kind'):visible + select").first.select_option("prefix")
        page.get_by_role("button", name="Add one to conditions").first.click()
        expect(text).to_have_value(re.compile(re.escape('probability = 0.5 }, { type = "prefix" }]')))
        page.locator("#filter").fill("boundary")
        page.get_by_label("temporal_boundary").fill("{ min = 1, max = 3 }")
        page.keyboard.press("Enter")
        expect(text).to_have_value(re.compile(re.escape('{ type = "prefix", temporal_boundary = { min = 1, max = 3 } }]')))


def test_the_filter_finds_keys_by_their_name_and_their_help(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        edit(page, studio)
        page.locator("#filter").fill("norm to which gradients")
        assert page.locator("#form .key:visible label").all_inner_texts() == ["max_grad_norm"]
        page.locator("#filter").fill("")
        assert page.locator("#form .key:visible").count() == 3
        page.locator("#only-set").check()
        assert "max_grad_norm" not in page.locator("#form .key:visible label").all_inner_texts()
        assert "rank" in page.locator("#form .key:visible label").all_inner_texts()


def test_text_that_is_not_saved_survives_a_reload_and_is_saved_whole(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    wanted = TEXT.replace("300", "400") + f"# {HOSTILE}\n"
    with opened(browser, studio) as page:
        edit(page, studio).fill(wanted)
        says(page, "kept as a draft")
        page.reload()
        expect(page.locator("#text")).to_have_value(wanted)
        says(page, "Not saved")
        assert (root(studio) / "run.toml").read_text() == TEXT
        page.locator("#text").press("Control+s")
        says(page, re.compile("^Saved$"))
        assert (root(studio) / "run.toml").read_text() == wanted
        edit(page, studio).fill(TEXT)
        says(page, "kept as a draft")
        page.reload()
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Discard the changes").click()
        expect(page.locator("#text")).to_have_value(wanted)


def test_a_file_that_another_program_changed_is_compared_before_it_is_overwritten(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    with opened(browser, studio) as page:
        edit(page, studio).fill(TEXT.replace("300", "400"))
        (root(studio) / "run.toml").write_text(TEXT.replace("300", "500"))
        page.locator("#save").click()
        says(page, "changed by another program", "#answer")
        assert "-steps = 500" in page.locator(".diff").inner_text()
        assert (root(studio) / "run.toml").read_text() == TEXT.replace("300", "500")
        page.get_by_role("button", name="Overwrite the file").click()
        says(page, re.compile("^Saved$"))
        assert (root(studio) / "run.toml").read_text() == TEXT.replace("300", "400")
        (root(studio) / "run.toml").write_text(TEXT)
        page.locator("#save").click()
        page.get_by_role("button", name="Take the file’s text").click()
        expect(page.locator("#text")).to_have_value(TEXT)


def test_starting_saves_the_file_and_adds_its_run(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        edit(page, studio).fill(TEXT.replace("300", "1"))
        page.locator("#start").click()
        page.wait_for_url(re.compile("/runs"))
    (job,) = studio.app.state.studio.jobs.all()
    assert (job.kind, job.arguments[0], job.about) == ("run", "run", {"run_file": "run.toml", "output_dir": "outputs/t2v"})
    assert "steps = 1\n" in (root(studio) / "run.toml").read_text()


def test_a_run_that_would_end_at_once_is_not_started(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        edit(page, studio).fill(TEXT.replace("rank = 16", "rank = 0"))
        page.locator("#start").click()
        says(page, "was not started", "#answer")
        assert faults(page) == []
    assert studio.app.state.studio.jobs.all() == []


def test_the_whole_check_reads_the_data_too(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        edit(page, studio)
        page.locator("#check").click()
        says(page, "The check found mistakes", "#answer")
        says(page, "encoded", "#faults")
        assert [path.name for path in root(studio).glob(".studio-*")] == []


PLUGIN = """
import attrs
from ltxcore.api import Inputs, LatentState, hookimpl
open("was_run", "a").close()

@attrs.frozen
class Ends:
    "Give the ends of a clip."
    modalities = frozenset({"video"})
    content = "whole"
    length: int = attrs.field(default=1, metadata={"help": "how many <b>frames</b>", "unit": "latent frames"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state

@hookimpl
def ltx_conditions():
    return {"ends": Ends}
"""


def test_python_files_are_executed_only_when_the_user_says_so_and_then_add_their_keys(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    folder = root(studio)
    (folder / "ends.py").write_text(PLUGIN)
    (folder / "run.toml").write_text('plugins = ["ends.py"]\n' + TEXT.replace("first_frame", "ends"))
    with opened(browser, studio) as page:
        edit(page, studio)
        says(page, "names Python files: ends.py", "#faults")
        says(page, "not checked", "#faults")
        page.locator("#gpu").select_option("h100")
        says(page, "Let them be executed", "#plan")
        page.locator("#gpu").select_option("")
        assert not (folder / "was_run").exists()
        page.get_by_role("button", name="Execute them").click()
        expect(page.locator("#trust")).to_have_count(0, timeout=60_000)
        assert (folder / "was_run").exists()
        page.locator("#filter").fill("how many <b>frames</b>")
        assert page.locator("#form .key:visible label").all_inner_texts() == ["length"]
        (folder / "ends.py").write_text(PLUGIN + "# changed\n")
        page.reload()
        says(page, "names Python files: ends.py", "#faults")


@pytest.mark.slow
def test_the_plan_says_whether_the_run_fits_and_follows_the_text(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        text = edit(page, studio)
        page.locator("#gpu").select_option("4090")
        says(page, "This cannot be planned", "#plan")
        assert ".studio-" not in page.locator("#plan").inner_text()
        text.fill(TEXT + 'resolution_buckets = "64x64x17"\n')
        says(page, "Planning", "#plan")
        says(page, "It fits", "#plan")
        says(page, "for 300 steps", "#plan")
        assert faults(page) == []
        text.fill(TEXT.replace("rank = 16", "rank = 0"))
        says(page, "follows when the mistakes are corrected", "#plan")
        assert [path.name for path in root(studio).glob(".studio-*")] == []


@pytest.mark.slow
def test_what_makes_a_run_fit_is_written_into_the_file_by_a_button(browser: Any, studio: Served) -> None:
    from playwright.sync_api import expect

    wanted = TEXT.replace('"tiny"', '"/models/ltx-2.3-22b-dev.safetensors"').replace('"no"', '"bf16"')
    wanted = wanted.replace("steps = 300", "steps = 300\nbatch_size = 1\nenable_gradient_checkpointing = true")
    wanted += 'resolution_buckets = "768x448x89"\n'
    with opened(browser, studio) as page:
        text = edit(page, studio)
        text.fill(wanted)
        page.locator("#gpu").select_option("3090")
        says(page, "It does not fit", "#plan")
        says(page, "planned for ltx-2.3-22b without its weights", "#plan")
        assert faults(page) == []
        remedies = page.locator(".remedies li")
        assert remedies.filter(has_text="--gpus").get_by_role("button", name="Plan for").count() == 1
        said = remedies.first.locator("code").all_inner_texts()
        remedies.first.get_by_role("button").click()
        for line in said:
            expect(text).to_have_value(re.compile(re.escape(line.partition(".")[2])), timeout=60_000)


@pytest.mark.slow
def test_a_run_file_is_made_for_a_mode_and_the_users_clips(browser: Any, studio: Served) -> None:
    with opened(browser, studio, 390) as page:
        page.goto(f"{studio.address}/run-file")
        page.get_by_role("link", name="Make a run file").click()
        assert faults(page) == []
        assert page.locator("input[name=mode]").count() >= 16
        page.locator("input[value=i2v]").check()
        assert page.locator("#as").input_value() == "i2v.toml"
        page.locator("#as").fill("run")
        page.locator("#make").click()
        says(page, "run.toml already exists", "#answer")
        page.locator("#as").fill("new/one.toml")
        page.locator("#model").select_option("tiny")
        page.locator("#make").click()
        says(page, "new/one.toml is made", "#answer")
        assert faults(page) == []
        page.get_by_role("link", name="Open new/one.toml").click()
        assert page.locator("#text").input_value() == (root(studio) / "new/one.toml").read_text()


@pytest.mark.slow
def test_the_next_batch_is_drawn_or_the_page_says_why_not(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    sound_set(tmp_path / "set")
    written = write_run(tmp_path, tables(tmp_path / "set", tmp_path / "outputs"))
    with served(tmp_path) as studio, opened(browser, studio) as page:
        text = edit(page, studio, written.name)
        page.locator("#look-ahead").click()
        expect(page.locator("#batch img")).to_be_visible(timeout=120_000)
        assert page.locator("#batch img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 500
        assert faults(page) == []
        text.fill(text.input_value().replace("is_generated = true", "is_generated = false"))
        page.locator("#look-ahead").click()
        says(page, "cannot be drawn", "#batch")
        page.reload()
        says(page, "cannot be drawn", "#batch")
