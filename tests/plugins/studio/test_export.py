"""The screen that exports: what each program takes, a file that is written and fetched, a merge, and what would be published."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from safetensors import safe_open

from helpers.made_run import HOSTILE, made_run
from helpers.studio_browser import WIDTHS, Served, faults, needs_browser, opened, served
from ltxcore.api import LtxError
from ltxplugins.studio.app import make_app
from ltxplugins.studio.export.targets import Target, targets
from ltxplugins.studio.export.work import add_export, add_merge, add_preview, add_upload, written
from ltxplugins.studio.safety import Admission
from ltxplugins.studio.studio import Studio
from ltxplugins.studio.try_out.found import find
from ltxplugins.studio.workspace import Workspace

LORA = "outputs/mine/lora.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("opened")
    run = made_run(root / "outputs" / "mine", lines=[], preprocessing={"lora_trigger": HOSTILE})
    (root / "other.safetensors").write_bytes((run / "lora.safetensors").read_bytes())
    return root


@pytest.fixture(scope="module")
def studio(folder: Path) -> Studio:
    return make_app(Workspace(folder), Admission("a-token-of-the-tests", 1)).state.studio


@pytest.fixture(scope="module")
def known(studio: Studio) -> list[Target]:
    return targets(studio)


def fields(**values: str) -> dict[str, list[str]]:
    return {name: [value] for name, value in values.items()}


def test_each_program_says_what_it_takes(known: list[Target]) -> None:
    assert [each.name for each in known] == ["comfyui", "diffusers", "ltx-pipelines"]
    comfyui = known[0]
    assert comfyui.about.startswith("ComfyUI: original names")
    assert comfyui.use.startswith("Put the file into ComfyUI/models/loras")
    assert comfyui.needs_base == {"dora"}
    assert comfyui.keys == ()


def test_an_export_is_the_command_that_one_would_write(studio: Studio, folder: Path, known: list[Target]) -> None:
    told = fields(lora=LORA, target="comfyui", model="tiny", dtype="float16", keys="a=1", file="exports/mine.safetensors", overwrite="1")
    job = add_export(studio, find(studio.workspace), known, told)
    studio.jobs.stop(job)
    assert job.arguments == (
        *("export", "--for", "comfyui,a=1", "--output", "exports/mine.safetensors", "--model", "tiny", "--dtype", "float16"),
        *("--overwrite", "--", LORA),
    )
    assert not job.uses_gpu


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lora": "/etc/passwd"}, "there is no LoRA /etc/passwd"),
        ({"target": "elsewhere"}, "no program was chosen"),
        ({"model": "/etc/passwd"}, "outside the folder"),
        ({"dtype": "int8"}, '"int8" is not one of'),
        ({"file": "../mine.safetensors"}, "outside the folder"),
        ({"file": "run.sh"}, "must be a name that ends in .safetensors"),
        ({"file": ".studio/jobs/mine.safetensors"}, "the studio's own folder"),
        ({"file": "other.safetensors"}, "already exists"),
    ],
)
def test_what_cannot_be_exported_is_refused(studio: Studio, known: list[Target], changed: dict[str, str], said: str) -> None:
    told = {"lora": LORA, "target": "comfyui", "file": "exports/mine.safetensors", **changed}
    before = len(studio.jobs.all())
    with pytest.raises(LtxError) as refused:
        add_export(studio, find(studio.workspace), known, fields(**told))
    assert said in str(refused.value)
    assert len(studio.jobs.all()) == before


def test_a_merge_takes_the_loras_that_have_a_strength(studio: Studio) -> None:
    found = find(studio.workspace)
    told = {"merged": [LORA, "other.safetensors"], "strength": ["1", "0.5"], "file": ["exports/merged.safetensors"]}
    job = add_merge(studio, found, told)
    studio.jobs.stop(job)
    assert job.arguments == ("lora", "merge", "--output", "exports/merged.safetensors", "--", LORA, "other.safetensors:0.5")
    for strengths in (["1", ""], ["1", "much"], ["1", "inf"]):
        with pytest.raises(LtxError):
            add_merge(studio, found, {**told, "strength": strengths})


def test_only_what_was_seen_is_uploaded_and_no_token_is_kept(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = find(studio.workspace)
    preview = add_preview(studio, found, fields(run="outputs/mine", repository="me/made", private="1"))
    assert preview.arguments[:4] == ("publish", "--to", "me/made", "--dry-run")
    with pytest.raises(LtxError):  # it was not made yet
        add_upload(studio, preview)
    studio.jobs.stop(preview)
    for repository in ("--private", "made", "a/b/c", "/made"):
        with pytest.raises(LtxError):
            add_preview(studio, found, fields(run="outputs/mine", repository=repository))
    with pytest.raises(LtxError):
        add_preview(studio, found, fields(run="../elsewhere"))
    assert "hf_secret" not in (preview.folder / "job.json").read_text()


def test_only_files_of_exports_are_fetched(studio: Studio) -> None:
    job = studio.jobs.add("export", "Mine", ["export"], {"file": "outputs/mine/run.toml"})
    studio.jobs.stop(job)
    with pytest.raises(LtxError):
        written(studio, job)


# ---- in a browser


@pytest.fixture(scope="module")
def page_of(folder: Path) -> Iterator[Served]:
    with served(folder) as found:
        yield found


@needs_browser
def test_a_lora_is_exported_and_the_file_fetched(browser: Any, page_of: Served, folder: Path) -> None:
    with opened(browser, page_of) as page:
        page.goto(f"{page_of.address}/export")
        page.get_by_label("diffusers").check()
        expect(page.locator("#export-file")).to_have_value("exports/mine.diffusers.safetensors")
        page.get_by_label("dtype").select_option("float16")
        page.get_by_role("button", name="Export", exact=True).click()
        link = page.get_by_role("link", name="exports/mine.diffusers.safetensors")
        link.wait_for(timeout=300_000)
        with page.expect_download() as download:
            link.click()
        assert Path(download.value.path()).read_bytes() == (folder / "exports" / "mine.diffusers.safetensors").read_bytes()
        assert "load_lora_weights" in page.locator(".done pre").first.inner_text()
        page.get_by_role("button", name="Export", exact=True).click()
        expect(page.locator("#said-export")).to_contain_text("already exists")
    with safe_open(folder / "exports" / "mine.diffusers.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype.itemsize for name in file.keys()} == {2}  # noqa: SIM118 (it is no mapping)


@needs_browser
def test_what_would_be_published_is_shown_as_text(browser: Any, page_of: Served) -> None:
    with opened(browser, page_of) as page:
        page.goto(f"{page_of.address}/export")
        page.get_by_role("textbox", name="Repository").fill("me/made")
        page.get_by_role("button", name="Show what would be uploaded").click()
        page.get_by_text("Model card", exact=True).wait_for(timeout=300_000)
        page.get_by_text("Model card", exact=True).click()
        done = page.locator(".done").first
        assert "LTX-2" in done.locator("dl").inner_text()
        assert "document.title = " in page.get_by_label("Model card", exact=True).inner_text()
        assert "lora.safetensors" in done.locator("table").text_content()
        assert done.get_by_role("button", name="Upload").is_enabled()
        assert page.title() == "Export – ltx studio"


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_screen_with_files_is_readable(browser: Any, page_of: Served, width: int) -> None:
    with opened(browser, page_of, width) as page:
        page.goto(f"{page_of.address}/export")
        for details in page.locator("details").all():
            details.locator("summary").click()
        assert faults(page) == []


def test_a_download_needs_the_cookie(page_of: Served) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{page_of.address}/export/file?job=1")
