"""Checkpoints in 8 bits as they are published: the official layout, that of ComfyUI, and its older one. Nothing here knows how ltx reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

LARGEST = 448.0
"""The largest number of float8_e4m3fn."""


def _official(name: str, scale: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight_scale": scale, f"{name}.input_scale": torch.tensor(1.0)}


def _comfy(name: str, scale: Tensor) -> dict[str, Tensor]:
    told = json.dumps({"format": "float8_e4m3fn", "full_precision_matrix_mult": True}).encode()
    return {f"{name}.weight_scale": scale, f"{name}.comfy_quant": torch.tensor(list(told), dtype=torch.uint8)}


def _older(name: str, scale: Tensor) -> dict[str, Tensor]:
    return {f"{name}.scale_weight": scale.reshape(1), f"{name}.scale_input": torch.ones(1)}


def _rows(name: str, scale: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight_scale": scale}


SPELLINGS: Mapping[str, Callable[[str, Tensor], dict[str, Tensor]]] = {
    "official": _official,
    "comfy": _comfy,
    "older comfy": _older,
    "a scale for each row": _rows,
}


def in_eight_bits(path: Path, spelling: str, among: str = "transformer_blocks.") -> dict[str, Tensor]:
    """Rewrite a checkpoint with the matrices whose names hold `among` in 8 bits; what those stand for now, float32 by name."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    stored, meant = dict(load_file(path)), {}
    for name in [name for name, tensor in stored.items() if among in name and name.endswith(".weight") and tensor.ndim == 2]:
        weight = stored[name].float()
        largest = weight.abs().amax(dim=1) if spelling == "a scale for each row" else weight.abs().max()
        scale = largest / LARGEST
        across = scale[:, None] if scale.ndim else scale
        stored[name] = (weight / across).to(torch.float8_e4m3fn)
        meant[name] = stored[name].float() * across
        stored |= SPELLINGS[spelling](name.removesuffix(".weight"), scale)
    if spelling == "older comfy":
        prefix = next(iter(meant)).partition("transformer_blocks")[0]
        stored[f"{prefix}scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    assert meant
    save_file(stored, path, metadata=metadata)
    return meant
