"""How to use what was trained: commands that name the run's own files, and that can be run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from helpers.made_run import made_run, weights
from ltxcore.api.runs import Record, read_run
from ltxplugins.tools.report.usage import uses

FLEXIBLE = {"name": "flexible"}


def record(folder: Path, **changed: Any) -> Record:
    return read_run(made_run(folder / "run", **changed))


def test_a_lora_is_used_with_its_conditions_and_its_trigger(tmp_path: Path) -> None:
    found = record(tmp_path)
    ltx, comfy, diffusers, pipelines = uses(found)
    lora = str(found.folder / "lora.safetensors")
    assert shlex.split(ltx.code) == [
        *(
            "ltx",
            "sample",
            "ltxworld what you want to see and hear",
            "--model",
            "/models/somebody/ltx-2.3-22b-dev.safetensors",
            "--lora",
            lora,
        ),
        *("--condition", "type=first_frame,image_or_video=FRAME.png", "--condition", "type=mask,audio=SOUND.wav,mask=MASK.wav"),
        *("-o", "sample.mp4"),
    ]
    assert ltx.how == 'Begin every prompt with "ltxworld". Replace the words in capitals with your own files.'
    assert comfy.code == f"ltx export {lora} --for comfyui -o run.comfyui.safetensors"
    assert diffusers.code == f"ltx export {lora} --for diffusers -o run.diffusers.safetensors\n\n" + (
        'pipeline.load_lora_weights("run.diffusers.safetensors")'
    )
    assert pipelines.code == (
        f"ltx export {lora} --for ltx-pipelines -o run.ltx-pipelines.safetensors\n\n"
        "# and add to the command of a pipeline:\n--lora run.ltx-pipelines.safetensors 1.0"
    )


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"audio": {"is_generated": True, "conditions": []}}, ["--no-generate-video", "-o", "sample.wav"]),
        ({"video": {"is_generated": True, "conditions": []}}, ["--no-generate-audio", "-o", "sample.mp4"]),
        (
            {"video": {"is_generated": False}, "audio": {"is_generated": True}},
            ["--condition", "type=video_to_audio,video=CLIP.mp4", "-o", "sample.mp4"],
        ),
        (
            {"video": {"is_generated": True, "conditions": [{"type": "reference", "latents_dir": "reference_latents"}]}},
            ["--condition", "type=reference,video=REFERENCE.mp4,downscale_factor=2", "--no-generate-audio", "-o", "sample.mp4"],
        ),
        (
            {"audio": {"is_generated": True, "conditions": [{"type": "prefix", "temporal_boundary": 4}]}},
            ["--condition", "type=prefix,temporal_boundary=4,audio=SOUND.wav", "--no-generate-video", "-o", "sample.wav"],
        ),
        (
            {"video": {"is_generated": True, "conditions": [{"type": "spatial_crop", "spatial_region": [0, 0, 32, 64]}]}},
            ["--condition", "type=spatial_crop,spatial_region=[0, 0, 32, 64],video=CLIP.mp4", "--no-generate-audio", "-o", "sample.mp4"],
        ),
    ],
)
def test_the_command_has_the_modalities_and_conditions_of_the_run(tmp_path: Path, strategy: dict[str, Any], expected: list[str]) -> None:
    folder = made_run(tmp_path / "run", training_strategy={**FLEXIBLE, **strategy})
    weights(folder / "lora.safetensors", reference_downscale_factor="2")
    words = shlex.split(uses(read_run(folder))[0].code)
    assert words[words.index("--lora") + 2 :] == expected


def test_the_tiny_model_is_nowhere_else(tmp_path: Path) -> None:
    weights(made_run(tmp_path / "run", model={"model_path": "tiny"}) / "lora.safetensors", generation="tiny")
    assert [(use.program, use.how, use.code) for use in uses(read_run(tmp_path / "run"))[1:]] == [
        (
            "ComfyUI, diffusers, ltx-pipelines",
            "These programs do not have the tiny model. For a LoRA on a real base model, use `ltx export`.",
            "",
        )
    ]


def test_a_run_that_stopped_says_how_it_goes_on(tmp_path: Path) -> None:
    found = record(tmp_path, status="stopped")
    (use,) = uses(found)
    assert (use.program, use.code) == ("Resume", f"ltx run {found.folder / 'run.toml'}")
    assert use.how == "It has not finished: 200 of 200 steps are done. It resumes from its last checkpoint."


def test_a_whole_model_is_used_in_place_of_the_base(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", model={"training_mode": "full"})
    (folder / "lora.safetensors").rename(folder / "model.safetensors")
    (use,) = uses(read_run(folder))
    words = shlex.split(use.code)
    assert words[words.index("--model") + 1] == str(folder / "model.safetensors")
    assert "--lora" not in words
    assert use.how.endswith("It is a whole model: use it in place of the base model.")
