"""The screen that generates: what the form stands for, and a sample that is generated, seen and used again in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from helpers.made_run import HOSTILE, made_run
from helpers.studio_browser import WIDTHS, Served, faults, needs_browser, opened, served
from ltxcore.api import ConfigError, LtxError
from ltxplugins.studio.try_out.conditions import Row, pairs, rows_of, spans_of
from ltxplugins.studio.try_out.form import Form
from ltxplugins.studio.try_out.found import find
from ltxplugins.studio.try_out.of_run import form_of
from ltxplugins.studio.workspace import Workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that finished, a LoRA from elsewhere, and a run file."""
    root = tmp_path_factory.mktemp("opened")
    run = made_run(root / "outputs" / "mine", lines=[], validation={"video_dims": [64, 64, 17], "inference_steps": 2, "seed": 7})
    (root / "other.safetensors").write_bytes((run / "lora.safetensors").read_bytes())
    (root / "run.toml").write_text((run / "run.toml").read_text())
    encoded = root / "data" / "latents"
    encoded.mkdir(parents=True)
    (encoded / "manifest-0.jsonl").write_text("")
    (encoded / "a.safetensors").write_bytes(b"")
    return root


# ---- what the folder holds


def test_loras_of_finished_runs_come_first_and_encoded_samples_are_none(folder: Path) -> None:
    found = find(Workspace(folder))
    assert [(lora.name, lora.run, lora.trigger) for lora in found.loras] == [
        ("outputs/mine/lora.safetensors", "outputs/mine", "ltxworld"),
        ("other.safetensors", "", "ltxworld"),
    ]
    assert found.models == ("tiny", "/models/somebody/ltx-2.3-22b-dev.safetensors")
    assert (found.runs, found.run_files) == (("outputs/mine",), ("run.toml",))


def test_the_settings_of_a_lora_are_those_of_its_run(folder: Path) -> None:
    workspace = Workspace(folder)
    form = form_of(workspace, find(workspace).lora("outputs/mine/lora.safetensors"))
    assert form["model"] == "/models/somebody/ltx-2.3-22b-dev.safetensors"
    assert [form[name] for name in ("width", "height", "frames", "inference_steps", "seed")] == ["64", "64", "17", "2", "7"]
    assert form.loras == (("outputs/mine/lora.safetensors", "1"),)
    assert [(row.kind, row.modality) for row in form.conditions] == [("first_frame", ""), ("mask", "audio")]


def test_defaults_of_a_run_are_left_to_the_model_and_to_presets(tmp_path: Path) -> None:
    usual = {"video_dims": [960, 544, 89], "inference_steps": 30, "video_cfg_scale": 3.0, "frame_rate": 24.0, "seed": 42}
    made_run(tmp_path / "mine", lines=[], validation={**usual, "audio_cfg_scale": 5.0})
    form = form_of(Workspace(tmp_path), find(Workspace(tmp_path)).loras[0])
    assert [form[name] for name in ("width", "inference_steps", "video_cfg_scale", "frame_rate", "seed")] == [""] * 5
    assert form["audio_cfg_scale"] == "5"


# ---- what the form stands for


def test_a_form_is_read_again_as_it_was_kept(folder: Path) -> None:
    form = Form(
        {"prompt": HOSTILE.strip(), "model": "tiny", "seed": "3"},
        (("other.safetensors", "0.5"), ("other.safetensors", "")),
        (Row("prefix", "audio", "a.wav", keys="duration=1.0"), Row("other", keys="type=hole,length=0.5")),
        ("mine.py",),
    )
    assert Form.read(json.loads(json.dumps(form.fields()))) == form


def test_the_arguments_are_those_of_the_command(folder: Path) -> None:
    (folder / "a, b.png").write_bytes(b"")
    form = Form(
        {
            "prompt": "-a disc",
            "model": "tiny",
            "seed": "3",
            "width": "64",
            "height": "32",
            "frames": "9",
            "memory": "8bit",
            "only": "video",
        },
        (("other.safetensors", "0.5"), ("outputs/mine/lora.safetensors", "1")),
        (Row("first_frame", file="a, b.png"),),
    )
    workspace = Workspace(folder)
    assert form.arguments(workspace, find(workspace), "samples/1") == [
        *("sample", "--output", "samples/1", "--model", "tiny"),
        *("--lora", "other.safetensors:0.5", "--lora", "outputs/mine/lora.safetensors"),
        *("--condition", 'type="first_frame",image_or_video="a, b.png"', "--seed", "3"),
        *("--load-text-encoder-in-8bit", "--no-generate-audio", "--video-dims", "64x32x9", "--", "-a disc"),
    ]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"prompt": ""}, "Prompt: there is nothing to generate"),
        ({"prompt": "a\0b"}, "no command can take"),
        ({"prompt": "run.toml"}, "looks like the name of a file"),
        ({"model": ""}, "Model: there is no model"),
        ({"model": "/etc/passwd"}, "Model: /etc/passwd is outside the folder"),
        ({"model": "nothing.safetensors"}, "Model: there is no file or folder nothing.safetensors"),
        ({"text_encoder_path": "../gemma"}, "Text encoder: ../gemma is outside the folder"),
        ({"seed": "1.5"}, 'Seed: "1.5" is not a whole number'),
        ({"video_cfg_scale": "inf"}, 'Guidance (video): "inf" is not a finite number'),
        ({"width": "64"}, "Size: width, height and frames belong together"),
        ({"precision": "fp4"}, 'Precision: "fp4" is not one of bf16, no'),
        ({"memory": "--overwrite"}, 'memory: "--overwrite" is not one of 8bit, offload'),
    ],
)
def test_what_no_sample_can_have_is_refused_before_a_job_is_made(folder: Path, texts: dict[str, str], said: str) -> None:
    workspace = Workspace(folder)
    with pytest.raises(LtxError) as refused:
        Form({"prompt": "a disc", "model": "tiny", **texts}).arguments(workspace, find(workspace), "samples/1")
    assert said in str(refused.value)


def test_loras_conditions_and_plugins_from_outside_are_refused_together(folder: Path) -> None:
    workspace = Workspace(folder)
    rows = (Row("first_frame", file="../a.png"), Row("mask", "audio", "run.toml"), Row("other", keys="length=1"), Row("prefix"))
    form = Form({"prompt": "a disc", "model": "tiny"}, (("/etc/lora.safetensors", "x"),), rows, ("/tmp/mine.py",))
    with pytest.raises(LtxError) as refused:
        form.arguments(workspace, find(workspace), "samples/1")
    assert [problem.where for problem in refused.value.problems] == [
        *("Strength of /etc/lora.safetensors", "LoRA", "/tmp/mine.py", "First frame", "Mask", "Other condition", "Beginning (prefix)")
    ]


def test_a_sweep_takes_numbers(folder: Path) -> None:
    form = Form({"strengths": "0, 0.5;1, 0.5"}, (("a", "1"), ("b", "2")))
    assert form.sweep() == [0.0, 0.5, 1.0]
    assert form.with_strength(0.5).loras == (("a", "0.5"), ("b", "2"))
    for strengths, loras in (("", form.loras), ("much", form.loras), ("nan", form.loras), ("1", ())):
        with pytest.raises(ConfigError):
            Form({"strengths": strengths}, loras).sweep()


def test_the_text_of_a_condition_is_read_as_the_command_reads_it() -> None:
    assert pairs('type=keyframes, images=["a,b.png", "c.png"],frames=[0,-1],level=0.5,name="x,\\"y"') == {
        **{"type": "keyframes", "images": ["a,b.png", "c.png"], "frames": [0, -1], "level": 0.5, "name": 'x,"y'}
    }
    assert pairs("no pairs") == {}
    rows = rows_of(["type=reference,video=REFERENCE.mp4,downscale_factor=2", "type=hole,length=0.5,modality=audio"])
    assert rows == (Row("reference", "video", keys="downscale_factor=2"), Row("other", keys="type=hole,length=0.5,modality=audio"))
    assert spans_of("2-2.5, 0.5-1.2") == [(0.5, 1.2), (2.0, 2.5)]
    assert spans_of("1-0") == spans_of("") == spans_of("x") == []


# ---- in a browser


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Served]:
    with served(folder) as found:
        yield found


PLAYS = "video => video.readyState ? video.duration : new Promise(done => video.onloadedmetadata = () => done(video.duration))"
"""How long a video plays, as soon as the browser knows it."""


def generated(page: Any, count: int) -> None:
    """Wait until there are `count` results; the machine may be busy."""
    expect(page.locator("#try-history article")).to_have_count(count, timeout=300_000)


@needs_browser
def test_a_sample_is_generated_seen_and_used_again(browser: Any, studio: Served, folder: Path) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/try")
        for name, value in {"Prompt": HOSTILE, "Model": "tiny", "Width": "32", "Height": "32", "Frames": "9", "Seed": "5"}.items():
            page.get_by_label(name, exact=True).fill(value)
        page.get_by_label("Preset").select_option("distilled")
        page.get_by_label("Prompt", exact=True).press("Control+Enter")
        page.get_by_text("The sample is in the queue.").wait_for()
        generated(page, 1)
        result = page.locator("#try-history article")
        assert result.locator(".prompt").inner_text() == " ".join(HOSTILE.split())
        assert result.locator("video").evaluate(PLAYS) == pytest.approx(9 / 16, abs=0.1)
        page.get_by_label("Prompt", exact=True).fill("something else")
        result.get_by_role("link", name="Use these settings again").click()
        page.get_by_text("These are the settings of that sample.").wait_for()
        assert page.get_by_label("Prompt", exact=True).input_value() == HOSTILE.strip()
        assert page.get_by_label("Seed", exact=True).input_value() == "5"
        assert page.title() == "Try – ltx studio"
    job = studio.app.state.studio.jobs.all()[0]
    assert {key: job.about[key] for key in ("prompt", "seed", "loras")} == {"prompt": HOSTILE.strip(), "seed": 5, "loras": []}
    assert (folder / job.about["output"]).is_dir()


@needs_browser
def test_a_lora_brings_the_settings_of_its_run_and_a_sweep_makes_a_job_for_each_strength(browser: Any, studio: Served) -> None:
    jobs = studio.app.state.studio.jobs
    before = len(jobs.all())
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/try")
        page.get_by_label("Prompt", exact=True).fill("a disc")
        page.get_by_label("A LoRA of the opened folder").select_option("outputs/mine/lora.safetensors")
        page.locator("#try-add").click()
        page.get_by_text("The settings are those of the run outputs/mine.").wait_for()
        assert page.get_by_label("Frames", exact=True).input_value() == "17"
        assert page.get_by_text("Trained with “ltxworld” before every caption").is_visible()
        for left, name in ((1, "First frame"), (0, "Mask")):
            page.get_by_role("button", name=f"Remove the condition {name}").click()
            expect(page.locator("[data-condition]")).to_have_count(left)
        page.get_by_label("Strength of outputs/mine/lora.safetensors, as a slider").fill("0.5")
        assert page.get_by_label("Strength of outputs/mine/lora.safetensors", exact=True).input_value() == "0.5"
        page.get_by_label("Sweep the first strength over").fill("0, 1")
        page.get_by_role("button", name="Generate each").click()
        page.locator("#try-said > *").wait_for()
        assert page.locator("#try-said").inner_text() == "2 samples are in the queue."
        generated(page, before + 2)
        assert page.get_by_text("This was not generated.").count() == 2  # there is no such model on this machine
        assert "ltx-2.3-22b-dev" in page.locator("#try-history .problems pre").first.inner_text()
    assert [job.about["loras"] for job in jobs.all()[before:]] == [[["outputs/mine/lora.safetensors", strength]] for strength in (0.0, 1.0)]


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_screen_with_results_is_readable(browser: Any, studio: Served, width: int) -> None:
    with opened(browser, studio, width) as page:
        page.goto(f"{studio.address}/try?lora=outputs/mine/lora.safetensors")
        page.locator("#try-more summary").click()
        for details in page.locator("#try-history details").all():
            details.locator("summary").click()
        assert faults(page) == []


@needs_browser
def test_what_is_wrong_is_said_beside_the_button(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/try")
        page.get_by_role("button", name="Generate", exact=True).click()
        page.get_by_role("alert").wait_for()
        assert "there is nothing to generate" in page.get_by_role("alert").inner_text()
        page.get_by_label("Prompt", exact=True).press("Tab")
        assert page.evaluate("document.activeElement.id") == "try-generate"
