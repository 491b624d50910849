"""Wrong keys and paths that are not there hide nothing of what `ltx check` finds but what hangs on them, and nothing is told that only follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.run_faults import FAULTS, Fault, assert_told_once, messages, with_faults
from cli.test_cli_check import check


def sample(size: tuple[int, int, int] = (64, 64, 17), **condition: str) -> dict[str, Any]:
    return {"validation": {"samples": [{"prompt": "x", "video_dims": list(size), "conditions": [condition]}]}}


NOT_THERE = [
    Fault("plugin", {"plugins": ["own.py"]}, "{plugins}: plugins: there is no file TMP/own.py"),
    Fault(
        "model",
        {"model": {"model_path": "no.safetensors"}},
        "{model_path}: model.model_path: there is no file or folder TMP/no.safetensors",
    ),
    *(
        Fault(key, {"model": {key: "no"}}, f"{{{key}}}: model.{key}: there is no file or folder TMP/no")
        for key in ("text_encoder_path", "video_vae_path", "audio_vae_path", "load_checkpoint")
    ),
    Fault("dataset", {"data": {"dataset": "no.jsonl"}}, "{dataset}: data.dataset: there is no file or folder TMP/no.jsonl"),
    Fault("held-out rows", {"data": {"held_out": "no.csv"}}, "{held_out}: data.held_out: there is no file or folder TMP/no.csv"),
    Fault(
        "engine",
        {"engine": {"name": "zero", "deepspeed_config": "no.json"}},
        "{deepspeed_config}: engine.deepspeed_config: there is no file TMP/no.json",
    ),
    Fault(
        "what a sample is given",
        sample(type="first_frame", image_or_video="no.png"),
        "{conditions}: validation.samples[0].conditions[0].image_or_video: there is no file TMP/no.png",
    ),
    Fault(
        "what a sound is drawn for",
        {"validation": {"generate_audio": True, **sample(type="video_to_audio", video="no.mp4")["validation"]}},
        "{conditions}: validation.samples[0].conditions[0].video: there is no file TMP/no.mp4",
    ),
]
"""Paths that are not there."""

WRONG_KEYS = [
    Fault("text for a number", {"lora": {"rank": "high"}}, "{rank}: lora.rank: must be a whole number"),
    Fault("what follows from it", {"lora": {"rank": 0}}, "{rank}: lora.rank: must be at least 1"),
    Fault("mode", {"model": {"training_mode": "fll"}}, '{training_mode}: model.training_mode: must be "lora" or "full"'),
    Fault("typo", {"preprocessing": {"resolution_bucket": "64x64x9"}}, "{resolution_bucket}: preprocessing.resolution_bucket: there is no"),
    Fault("column", {"preprocessing": {"caption_columm": "text"}}, "{caption_columm}: preprocessing.caption_columm: there is no such key"),
    Fault(
        "buckets", {"preprocessing": {"resolution_buckets": "wide"}}, '{resolution_buckets}: preprocessing.resolution_buckets: "wide" is no'
    ),
    Fault("dataset", {"data": {"dataset": 5}}, "{dataset}: data.dataset: must be a path"),
    Fault("held-out rows", {"data": {"held_out": True}}, "{held_out}: data.held_out: must be a number or a path"),
    Fault("sampler", {"flow_matching": {"timestep_sampling_mode": "unifrom"}}, "{timestep_sampling_mode}: flow_matching.timestep_sampling"),
    Fault(
        "schedule",
        {"optimization": {"scheduler_type": "step", "scheduler_params": {"gama": -0.5}}},
        "{gama}: optimization.scheduler_params.gama: there is no such key",
    ),
    Fault("tracker", {"trackers": {"jsonl": {"x": 1}}}, "{x}: trackers.jsonl.x: there is no such key"),
    Fault("condition", {"training_strategy": {"conditions": 3}}, "{conditions}: training_strategy.conditions: there is no such key"),
    Fault("folder", {"output_dir": 5}, "{output_dir}: output_dir: must be a path"),
    Fault("sample", {"validation": {"samples": [{"prompt": 3}]}}, "{prompt}: validation.samples[0].prompt: must be text"),
    Fault(
        "step of samples", {"validation": {"intervall": 3, "samples": [{"prompt": "x"}]}}, "{intervall}: validation.intervall: there is no"
    ),
]
"""Keys that cannot be read, or are none."""


@pytest.mark.parametrize("fault", [*NOT_THERE, *WRONG_KEYS], ids=lambda fault: f"{fault.part}: {fault.told[:30]}")
def test_nothing_is_told_that_only_follows_from_a_key_that_is_not_known(folder: Path, fault: Fault) -> None:
    path, (told,) = with_faults(folder, [fault])
    (found,) = messages(check(str(path))[2], folder)
    assert found.startswith(told)


def test_paths_that_are_not_there_are_told_beside_all_that_does_not_hang_on_them(folder: Path) -> None:
    parts = {"output folder", "hub", "schedule", "held-out rows"}
    both = sample(type="first_frame", image_or_video="no.png", size=(64, 60, 17))
    size = Fault("size", both, "{video_dims}: validation.samples[0].video_dims: a clip of 64x60x17 has height 60")
    apart = [fault for fault in NOT_THERE if fault.part not in ("held-out rows", "what a sound is drawn for")]
    path, told = with_faults(folder, [*apart, size, *(fault for fault in FAULTS if fault.part in parts)])
    assert_told_once(messages(check(str(path))[2], folder), told)
