"""The screen of the run file as a browser shows it: the text and the form in step, saved, and started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.studio_browser import WIDTHS, Served, faults, needs_browser, opened, served

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
        says(page, "2 to mend", "#faults")
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
