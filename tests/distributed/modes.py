"""Small sets and run files of every kind of mode, for engines to agree on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from train.runs import put, put_sound, write_run

STEPS = 20
SAMPLES = 14
PLUGIN = Path(__file__).with_name("stranger.py")

FLEXIBLE = {"name": "flexible"}
AUDIO = {"is_generated": True, "latents_dir": "audio_latents"}
VIDEO = {"is_generated": True, "latents_dir": "latents"}
MASK = {"type": "mask", "mask_dir": "audio_masks"}
REFERENCE = {"type": "reference", "latents_dir": "reference_latents", "probability": 0.5}
FIRST_FRAME = {"type": "first_frame", "probability": 0.5}

LORA = {"model": {"training_mode": "lora"}, "lora": {"rank": 4, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"], "dropout": 0.1}}
FULL = {"model": {"training_mode": "full"}}

MODES: Mapping[str, Mapping[str, Any]] = {
    "sound, gaps, LoRA": {**LORA, "training_strategy": {**FLEXIBLE, "audio": {**AUDIO, "conditions": [MASK]}}},
    "sound, prefix, full": {
        **FULL,
        "training_strategy": {
            **FLEXIBLE,
            "audio": {**AUDIO, "conditions": [{"type": "prefix", "temporal_boundary": 2, "probability": 0.5}]},
        },
    },
    "picture, first frame, LoRA, checkpointing": {
        **LORA,
        "training_strategy": {**FLEXIBLE, "video": {**VIDEO, "conditions": [FIRST_FRAME]}},
        "optimization": {"enable_gradient_checkpointing": True},
    },
    "picture, reference, full": {**FULL, "training_strategy": {**FLEXIBLE, "video": {**VIDEO, "conditions": [REFERENCE]}}},
    "both, reference and suffix, LoRA": {
        **LORA,
        "training_strategy": {
            **FLEXIBLE,
            "video": {**VIDEO, "conditions": [REFERENCE, FIRST_FRAME]},
            "audio": {**AUDIO, "conditions": [{"type": "suffix", "temporal_boundary": 3, "probability": 0.5}]},
        },
    },
    "both, full, accumulation": {
        **FULL,
        "training_strategy": {**FLEXIBLE, "video": VIDEO, "audio": AUDIO},
        "optimization": {"gradient_accumulation_steps": 2},
    },
    "picture for given sound, LoRA": {
        **LORA,
        "training_strategy": {**FLEXIBLE, "video": VIDEO, "audio": {**AUDIO, "is_generated": False}},
    },
    "a stranger's condition, LoRA": {
        **LORA,
        "training_strategy": {**FLEXIBLE, "audio": {**AUDIO, "conditions": [{"type": "every_other", "probability": 0.5}]}},
    },
}
"""What each adds to `run_tables`; the accumulation is that of two processes."""


def make_set(root: Path) -> Path:
    """Clips with sound, references half as large, masks over the sound, and texts of different lengths."""
    for number in range(SAMPLES):
        name = put_sound(root, number)
        generator = torch.Generator().manual_seed(number)
        latents = torch.randn(128, 3, 2, 2, generator=generator)
        put(root, "latents", name, {"latents": latents}, rate=16.0, fingerprint=name, origin=f"{name}.wav")
        put(
            root,
            "reference_latents",
            name,
            {"latents": latents[:, :, :1, :1].contiguous()},
            rate=16.0,
            fingerprint=name,
            origin=f"{name}.wav",
        )
    return root


def run_tables(mode: str, root: Path, output: Path, **changed: Any) -> dict[str, Any]:
    """A run file in float32; `changed` replaces keys of tables."""
    run: dict[str, Any] = {
        "output_dir": str(output),
        "plugins": [str(PLUGIN)],
        "model": {"model_path": "tiny-untrained"},
        "optimization": {"steps": STEPS, "batch_size": 2, "learning_rate": 2e-3, "gradient_accumulation_steps": 1},
        "acceleration": {"mixed_precision_mode": "no"},
        "flow_matching": {"timestep_sampling_mode": "recorded", "timestep_sampling_params": {"to": f"{output}.draws"}},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
        "checkpoints": {"precision": "float32"},
        "trackers": {"ender": {}},
        "data": {"preprocessed_data_root": str(root), "held_out": 3, "num_dataloader_workers": 0},
    }
    for changes in (MODES[mode], changed):
        for name, keys in changes.items():
            run[name] = {**run[name], **keys} if isinstance(keys, Mapping) and name in run else keys
    return run


WHOLE = 1000
"""Numbers up to which DeepSpeed leaves a weight whole: all vectors. To gather each of them too, as with 0, would take three times as long."""


def zero(folder: Path, stage: int, *, whole: int | None = WHOLE, **more: Any) -> dict[str, Any]:
    """`[engine]` with a DeepSpeed configuration that divides what has more than `whole` numbers; None: DeepSpeed's default, 100,000, which leaves a tiny model whole."""
    path = folder / f"zero_{stage}_{whole}.json"
    threshold = {} if whole is None else {"stage3_param_persistence_threshold": whole}
    path.write_text(json.dumps({"zero_optimization": {"stage": stage, **threshold}}))
    return {"name": "zero", "deepspeed_config": str(path), **more}


def slug(mode: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in mode)


def write(folder: Path, name: str, tables: Mapping[str, Any]) -> Path:
    return write_run(folder, tables, f"{name}.toml")
