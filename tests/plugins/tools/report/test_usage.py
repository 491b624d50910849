"""How to use what was trained: commands that name the run's own files, and that can be run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import save_file

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


@pytest.mark.parametrize("type", ["lora", "dora"])
def test_what_a_lora_was_trained_on_top_of_is_used_with_it(tmp_path: Path, type: str) -> None:
    found = record(tmp_path, model={"loras": ["/m/style.safetensors:0.5"]})
    assert found.weights is not None
    found = attrs.evolve(found, weights=attrs.evolve(found.weights, type=type))
    ltx, comfy, *_ = uses(found)
    assert "--lora /m/style.safetensors:0.5 --lora " in ltx.code
    assert ("--with-frozen /m/style.safetensors -o" in comfy.code) == (type == "lora")
    assert comfy.how.endswith("It was trained on top of /m/style.safetensors:0.5: load these too.") == (type == "dora")


def test_the_files_of_a_model_that_is_not_in_one_file_are_named(tmp_path: Path) -> None:
    model = {"model_path": "/m/transformer.safetensors", "text_encoder_path": "/m/gemma", "audio_vae_path": "/m/audio.safetensors"}
    ltx, *_ = uses(record(tmp_path, model=model))
    words = shlex.split(ltx.code)
    assert words[3:9] == [
        "--model",
        "/m/transformer.safetensors",
        "--text-encoder-path",
        "/m/gemma",
        "--audio-vae-path",
        "/m/audio.safetensors",
    ]


def test_programs_that_cannot_load_a_type_are_left_out_and_the_base_is_named_where_an_export_needs_it(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    before = "transformer.transformer_blocks.0.attn1.to_k"
    tensors = {"lora_A.weight": torch.ones(4, 8), "lora_B.weight": torch.ones(8, 4), "lora_magnitude_vector": torch.ones(8)}
    lora = folder / "lora.safetensors"
    save_file(
        {f"{before}.{ending}": tensor for ending, tensor in tensors.items()}, lora, metadata={"generation": "2.3", "use_dora": "true"}
    )
    _, comfy, diffusers = uses(read_run(folder))
    base = "--model /models/somebody/ltx-2.3-22b-dev.safetensors"
    assert comfy.code == f"ltx export {lora} --for comfyui {base} -o run.comfyui.safetensors"
    assert diffusers.code.startswith(f"ltx export {lora} --for diffusers -o run.diffusers.safetensors\n")


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
            {"video": {"is_generated": True, "conditions": [{"type": "keyframes", "keyframes_dir": "keyframes", "candidates": [0, -1]}]}},
            [
                *("--condition", 'type=keyframes,images=["FIRST.png", "LAST.png"],frames=[0, -1]'),
                *("--no-generate-audio", "-o", "sample.mp4"),
            ],
        ),
        (
            {"audio": {"is_generated": True, "conditions": [{"type": "prefix", "temporal_boundary": {"min": 4, "max": 9}}]}},
            ["--condition", "type=prefix,temporal_boundary=4,audio=SOUND.wav", "--no-generate-video", "-o", "sample.wav"],
        ),
        (
            {"audio": {"is_generated": True, "conditions": [{"type": "hole", "length": {"min": 0.1, "max": 1.0}, "invert": True}]}},
            ["--condition", "type=hole,length=0.1,invert=true,audio=SOUND.wav", "--no-generate-video", "-o", "sample.wav"],
        ),
        (
            {"audio": {"is_generated": True, "choices": [{"one_of": [[{"type": "prefix", "temporal_boundary": 4}], []]}]}},
            ["--condition", "type=prefix,temporal_boundary=4,audio=SOUND.wav", "--no-generate-video", "-o", "sample.wav"],
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


def test_the_command_names_the_python_files_of_the_run_which_may_add_the_type_of_its_adapters(tmp_path: Path) -> None:
    words = shlex.split(uses(record(tmp_path, plugins=["/home/somebody/rows.py", "/home/somebody/glow.py"]))[0].code)
    assert words[words.index("--lora") + 2 :][:4] == ["--plugin", "/home/somebody/rows.py", "--plugin", "/home/somebody/glow.py"]


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
