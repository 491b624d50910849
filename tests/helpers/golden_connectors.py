"""The recorded connectors as tensors of a checkpoint, and the settings that its configuration has for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.golden_io import load_case
from ltxcore.headers import Slots
from ltxcore.models.checkpoint_files import Checkpoint
from ltxcore.models.connectors import Connectors, connectors_of
from ltxcore.safetensors_files import read_header

PREFIX = "model.diffusion_model."
SETTINGS: dict[str, Any] = {
    "caption_proj_before_connector": True,
    "connector_num_attention_heads": 4,
    "connector_attention_head_dim": 16,
    "audio_connector_num_attention_heads": 4,
    "audio_connector_attention_head_dim": 8,
    "connector_num_layers": 2,
    "connector_num_learnable_registers": 8,
    "connector_positional_embedding_max_pos": [4096],
    "connector_apply_gated_attention": True,
    "connector_norm_output": True,
    "positional_embedding_theta": 10000.0,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "norm_eps": 1e-6,
}


def connector_tensors() -> dict[str, Tensor]:
    """Both connectors under their names in a checkpoint, bf16."""
    return {
        f"{PREFIX}{name}_embeddings_connector.{key}": value.to(torch.bfloat16)
        for name in ("video", "audio")
        for key, value in load_case("11_connector", f"weights.{name}").outputs.items()
        if value is not None
    }


def write_connectors(path: Path, tensors: dict[str, Tensor] | None = None) -> Path:
    save_file(connector_tensors() if tensors is None else tensors, path)
    return path


def load_connectors(
    path: Path, modalities: Collection[str], dtype: torch.dtype = torch.float32, settings: Mapping[str, Any] = SETTINGS
) -> Connectors:
    """The connectors of a file or, given the folder `connectors` of a diffusers model, of this folder."""
    header = Slots(path.parent / "transformer", {}, {}) if path.is_dir() else read_header(path)
    if path.is_dir():
        header.where.mkdir(exist_ok=True)
    return connectors_of(Checkpoint(header, PREFIX, {"transformer": settings}, {}, has_connectors=True), modalities, dtype)
