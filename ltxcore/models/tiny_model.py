"""The tiny model, which is of the same class as the real model but small enough to train on a laptop's CPU.

The tiny model has four layers, four heads of width 32 in both streams, text features of width 128 per modality, no projection of text, and
no connectors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TINY: dict[str, Any] = {
    "num_layers": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "cross_attention_dim": 128,
    "in_channels": 128,
    "out_channels": 128,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 128,
    "audio_in_channels": 128,
    "audio_out_channels": 128,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
    "positional_embedding_theta": 10000.0,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000,
    "apply_gated_attention": False,
    "cross_attention_adaln": False,
    "caption_proj_before_connector": True,
    "norm_eps": 1e-6,
}
"""The tiny model's configuration, with the names that checkpoints use."""


def tiny_metadata() -> dict[str, str]:
    """Return the metadata of a checkpoint of the tiny model."""
    return {"config": json.dumps({"transformer": TINY}), "generation": "tiny", "format": "pt"}


def fresh_tensor(name: str, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Tensor:
    """Return the untrained float32 values of the parameter `name`.

    They depend on the name, the whole model's `shapes` and the seed, but not on which modalities are built.

    As in diffusers, weights and biases are uniform within 1 / sqrt(inputs), tables are normal, and a stream's tables are scaled by 1 /
    sqrt(width); normalizations start at 1, and the marker at 0.

    Source: https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/transformers/transformer_ltx2.py
    """
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
    last, shape = name.rsplit(".", 1)[-1], shapes[name]
    if last == "keyframes_abs_pos_embedding":
        return torch.zeros(shape)
    if ".norm_q." in name or ".norm_k." in name:
        return torch.ones(shape)
    if last in ("scale_shift_table", "audio_scale_shift_table"):
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5
    if last.endswith("scale_shift_table"):
        return torch.randn(shape, generator=generator)
    inputs = shapes.get(name.removesuffix(".bias") + ".weight", shape)[-1]
    bound = inputs**-0.5
    return torch.rand(shape, generator=generator) * 2 * bound - bound
