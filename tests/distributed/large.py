"""A model that is large beside what a process has apart from it, and a run that trains its sound on two short samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from helpers.training_runs import write_run
from helpers.untrained import write_untrained
from ltxcore.models.build import build
from ltxcore.models.load_base import describe
from ltxcore.models.tiny_model import TINY

WIDE = {**TINY, "num_layers": 8, "audio_num_attention_heads": 16, "audio_attention_head_dim": 64, "audio_in_channels": 128}
"""The tiny model with a stream of sound of 1024 values per token: about 120 million parameters, nearly all of it."""

CAREFUL = {
    "stage3_max_live_parameters": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_prefetch_bucket_size": 0,
    "reduce_bucket_size": 1_000_000,
}
"""DeepSpeed keeps a thousand million gathered numbers by default, which is more than this model has."""


def write_wide(path: Path) -> int:
    """Write the checkpoint in bf16; the parameters of its stream of sound."""
    write_untrained(path, WIDE, torch.bfloat16)
    sound = build(WIDE, describe("tiny-untrained"), frozenset({"audio"}))
    return sum(parameter.numel() for parameter in sound.parameters())


def wide_run(folder: Path, name: str, mode: str, precision: str, **changed: Any) -> Path:
    """One step of two of the samples in `folder/data`."""
    config = folder / "careful.json"
    config.write_text(json.dumps({"zero_optimization": {"stage": 3, **CAREFUL}}))
    run: dict[str, Any] = {
        "output_dir": str(folder / name),
        "model": {"model_path": str(folder / "wide.safetensors"), "training_mode": mode},
        "training_strategy": {"name": "flexible", "audio": {"is_generated": True, "latents_dir": "audio_latents"}},
        "optimization": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
        "acceleration": {"mixed_precision_mode": precision},
        "engine": {"name": "zero", "deepspeed_config": str(config)},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
        "data": {"preprocessed_data_root": str(folder / "data"), "held_out": 0, "num_dataloader_workers": 0},
        **changed,
    }
    if mode == "lora":
        run["lora"] = {"rank": 4, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"]}
    return write_run(folder, run, f"{name}.toml")
