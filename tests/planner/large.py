"""A base of 30M parameters, or more, with random weights, two clips with sound, and a run file that trains all of it on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from helpers.training_runs import put, write_run
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.base import Base
from ltxcore.models.parameter_names import to_original
from ltxcore.models.tiny_model import TINY

LARGE: dict[str, Any] = {
    **TINY,
    "num_layers": 4,
    "num_attention_heads": 8,
    "attention_head_dim": 64,
    "cross_attention_dim": 512,
    "audio_num_attention_heads": 8,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 256,
}
LENGTH = 32


def write_large(path: Path, layers: int = LARGE["num_layers"]) -> int:
    """Write the base and the encoded clips into a folder, and return the number of parameters."""
    config = {**LARGE, "num_layers": layers}
    backbone = Base(ModelInfo("large", "2.3", "", layers), config).sketch(frozenset({"video", "audio"}))
    shapes = {name.removeprefix("transformer."): tuple(each.shape) for name, each in backbone.named_parameters()}
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert count >= 25e6
    tensors = {
        f"model.diffusion_model.{to_original(name)}": (torch.rand(shape, dtype=torch.bfloat16) - 0.5) / 16 for name, shape in shapes.items()
    }
    save_file(tensors, path / "large.safetensors", metadata={"config": json.dumps({"transformer": config})})
    for number in range(2):
        told = {"fingerprint": f"{number}", "origin": f"{number}.mp4"}
        put(path / "data", "latents", f"clip{number}", {"latents": torch.randn(128, 4, 4, 4)}, rate=16.0, **told)
        put(path / "data", "audio_latents", f"clip{number}", {"latents": torch.randn(8, 64, 16)}, **told)
        text = {"video": torch.randn(3, 512), "audio": torch.randn(3, 256)}
        put(path / "data", "conditions", f"clip{number}", text, shape=(LENGTH,), **told)
    return count


def large_run(folder: Path, name: str, **tables: Any) -> Path:
    """Write a run file of full fine-tuning; keys of `tables` take the place of these."""
    generated = {"is_generated": True}
    run: dict[str, Any] = {
        "output_dir": str(folder / f"out_{name}"),
        "model": {"model_path": str(folder / "large.safetensors"), "training_mode": "full"},
        "training_strategy": {
            "name": "flexible",
            "video": {**generated, "latents_dir": "latents"},
            "audio": {**generated, "latents_dir": "audio_latents"},
        },
        "optimization": {"steps": 3, "batch_size": 1},
        "data": {"preprocessed_data_root": str(folder / "data"), "held_out": 0, "num_dataloader_workers": 0},
        "validation": {"skip_initial_validation": True},
    }
    for table, keys in tables.items():
        run[table] = {**run.get(table, {}), **keys}
    return write_run(folder, run, f"{name}.toml")
