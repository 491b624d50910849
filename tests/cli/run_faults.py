"""A run of clips that is in order, and mistakes in every part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.raw_media import clip_file
from ltxcore.config.render import document
from ltxcore.models import TINY_BASE


@attrs.frozen
class Fault:
    """One mistake in one part of a run.

    Attributes:
        part: of the run.
        changed: keys of the run file.
        told: how its message begins, with TMP for the folder, and {KEY} for the line of a key.
        made: makes the files that it is about.
    """

    part: str
    changed: Mapping[str, Any]
    told: str
    made: Callable[[Path], None] = lambda folder: None


def model_with_a_foreign_tensor(folder: Path) -> None:
    with safe_open(TINY_BASE, framework="pt") as file:
        metadata = file.metadata()
    extra = {"model.diffusion_model.transformer_blocks.0.attn1.to_z.weight": torch.zeros(2, 2)}
    save_file(load_file(TINY_BASE) | extra, folder / "model.safetensors", metadata=metadata)


def lora_of_another_model(folder: Path) -> None:
    module = "diffusion_model.transformer_blocks.0.attn1.to_q"
    save_file({f"{module}.lora_A.weight": torch.zeros(2, 3), f"{module}.lora_B.weight": torch.zeros(5, 2)}, folder / "start.safetensors")


def broken_row(folder: Path) -> None:
    (folder / "clips.jsonl").write_text(
        '{"video": "a.mp4", "caption": "one"}\n{"video": "gone.mp4", "caption": "two"}\n{"video": "broken.mp4", "caption": "three"}\n'
        '{"video": "d.mp4", "caption": 4}\n'
    )
    (folder / "broken.mp4").write_bytes(b"no clip")


FAULTS = [
    Fault("output folder", {"output_dir": "out"}, "{output_dir}: output_dir: TMP/out is a file", lambda folder: (folder / "out").touch()),
    Fault("precision", {"acceleration": {"offload_blocks": 2}}, "{offload_blocks}: acceleration.offload_blocks: saves nothing without"),
    Fault("engine", {"engine": {"name": "single", "stage": 2}}, "{stage}: engine.stage: only works with several processes"),
    Fault("hub", {"hub": {"push_to_hub": True, "hub_model_id": "a/b"}}, "{push_to_hub}: hub.push_to_hub: "),
    Fault(
        "schedule",
        {"optimization": {"scheduler_type": "step", "scheduler_params": {"gamma": -0.5}}},
        '{[optimization.scheduler_params]}: optimization.scheduler_params: the schedule "step" does not take these parameters: the learning rate',
    ),
    Fault(
        "model",
        {"model": {"model_path": "model.safetensors", "load_checkpoint": "start.safetensors"}},
        "TMP/model.safetensors: 1 tensor is not part of the model: transformer_blocks.0.attn1.to_z.weight",
        model_with_a_foreign_tensor,
    ),
    Fault("LoRA to start from", {}, "TMP/start.safetensors: 1 module does not fit the base", lora_of_another_model),
    Fault(
        "samples",
        {"validation": {"samples": [{"prompt": "x", "video_dims": [64, 60, 17]}]}},
        "{video_dims}: validation.samples[0].video_dims: a clip of 64x60x17 has height 60",
    ),
    Fault(
        "rows",
        {"data": {"dataset": "clips.jsonl", "preprocessed_data_root": "file/encoded"}},
        'TMP/clips.jsonl:2: the video "gone.mp4" is not there',
        broken_row,
    ),
    Fault("captions", {}, 'TMP/clips.jsonl:4: the value of "caption" is 4, not text'),
    Fault("media", {}, "TMP/clips.jsonl:3: TMP/broken.mp4: this is not a clip, a sound or an image that can be read"),
    Fault(
        "buckets",
        {"preprocessing": {"resolution_buckets": "64x60x17"}},
        "{resolution_buckets}: preprocessing.resolution_buckets: the bucket 64x60x17 has height 60",
    ),
    Fault(
        "encoded set",
        {},
        "{preprocessed_data_root}: data.preprocessed_data_root: the data cannot be encoded in this folder: TMP/file is a file, not a folder",
        lambda folder: (folder / "file").touch(),
    ),
    Fault(
        "held-out rows", {"data": {"held_out": "apart.csv"}}, "TMP/apart.csv: has no rows", lambda folder: (folder / "apart.csv").touch()
    ),
]


def good(folder: Path) -> dict[str, Any]:
    """A valid run of clips."""
    for name in ("a", "d"):
        clip_file(folder / f"{name}.mp4", frames=17)
        os.utime(folder / f"{name}.mp4", (1e9, 1e9))  # of a file that was just written it is not known whether it will change
    (folder / "clips.jsonl").write_text('{"video": "a.mp4", "caption": "one"}\n{"video": "d.mp4", "caption": "four"}\n')
    return {
        "output_dir": "run",
        "model": {"model_path": "tiny"},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "optimization": {"steps": 1, "batch_size": 2},
        "validation": {"inference_steps": 2},
        "data": {"dataset": "clips.jsonl", "held_out": 0, "num_dataloader_workers": 0},
    }


def with_faults(folder: Path, faults: list[Fault]) -> tuple[Path, list[str]]:
    """A run file with these faults, and how the messages of them begin."""
    run = good(folder)
    for fault in faults:
        fault.made(folder)
        for table, keys in fault.changed.items():
            run[table] = {**run.get(table, {}), **keys} if isinstance(keys, dict) else keys
    path = folder / "run.toml"
    path.write_text(document(run))
    lines = path.read_text().splitlines()

    def placed(told: str) -> str:
        if not told.startswith("{"):
            return told
        key, rest = told[1:].split("}", 1)
        line = next(number for number, text in enumerate(lines, 1) if text == key or f"{key} = " in text)
        return f"TMP/run.toml:{line}{rest}"

    return path, [placed(fault.told) for fault in faults]


def messages(err: str, folder: Path) -> list[str]:
    return [line for line in err.replace(str(folder), "TMP").splitlines() if not line.startswith("    ")]


def assert_told_once(found: list[str], told: list[str]) -> None:
    """That the messages are these, in whatever order."""
    assert sorted(next((start for start in told if line.startswith(start)), line) for line in found) == sorted(told)
