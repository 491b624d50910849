"""A small model that takes the first-frame marker, as LTX-2.5 does, and a set and runs with pictures for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from helpers.training_runs import put, tables, write_run
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.models.load_base import load_backbone
from ltxcore.models.parameter_names import block_of, to_original
from ltxcore.models.tiny_model import TINY

SETTINGS = {**TINY, "num_layers": 1, "use_keyframes_abs_pos_embedding": True}
VIDEO = {"is_generated": True, "latents_dir": "latents", "conditions": [{"type": "first_frame", "probability": 0.5}]}


def model_with_marker(path: Path) -> Path:
    """The first block of the tiny model with fresh weights, and a mark that is not zero."""
    backbone = load_backbone("tiny-untrained", frozenset({"video", "audio"}), dtype=torch.float32)
    kept = {name: value for name, value in backbone.named_parameters() if block_of(name.removeprefix("transformer.")) in (None, 0)}
    weights = {to_original(name.removeprefix("transformer.")): value.detach() for name, value in kept.items()}
    weights["keyframes_abs_pos_embedding"] = torch.randn(
        1, backbone.blueprint.shapes["proj_in.weight"][0], generator=torch.Generator().manual_seed(5)
    )
    told = {"config": json.dumps({"transformer": SETTINGS}), "generation": "tiny", "codec": "tiny"}
    told["text_fingerprint"] = text_encoder("tiny").fingerprint
    save_file({f"model.diffusion_model.{name}": value.contiguous() for name, value in weights.items()}, path, metadata=told)
    return path


def clip_set(root: Path, count: int = 4) -> Path:
    """Clips of 3 x 2 x 2 cells at 16 frames a second."""
    for number in range(count):
        name = f"clip{number}"
        draw = torch.Generator().manual_seed(number)
        told = {"fingerprint": name, "origin": name}
        put(root, "latents", name, {"latents": torch.randn(128, 3, 2, 2, generator=draw)}, rate=16.0, **told)
        words = torch.randn(3, 128, generator=draw)
        put(root, "conditions", name, {"video": words, "audio": words}, shape=(4,), encoder=text_encoder("tiny").fingerprint, **told)
    return root


def clip_run(folder: Path, model: str, output: Path, strategy: dict[str, Any] | None = None, **changed: Any) -> Path:
    """The file of a run of pictures alone on the set in `folder`, in two steps."""
    run = tables(
        folder,
        output,
        model={"model_path": model},
        lora={"target_modules": ["attn1.to_q", "attn1.to_v"]},
        optimization={"steps": 2, "batch_size": 2},
        data={"held_out": 2},
        **changed,
    )
    run["training_strategy"] = strategy or {"name": "flexible", "video": VIDEO}
    output.parent.mkdir(parents=True, exist_ok=True)
    return write_run(output.parent, run)


def clip_loaded(folder: Path, model: str, output: Path, *settings: str, **changed: Any) -> LoadedRun:
    return load_run(clip_run(folder, model, output, **changed), settings)
