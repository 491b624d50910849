"""Checkpoints of the tiny model in other sizes, untrained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ltxcore.codecs.load_codecs import METADATA_KEY, text_encoder
from ltxcore.models.build import build
from ltxcore.models.load_base import describe
from ltxcore.models.parameter_names import CHECKPOINT_PREFIXES, to_original
from ltxcore.models.tiny_model import fresh_tensor, tiny_metadata
from ltxcore.safetensors_files import Stored, write_tensors


def write_untrained(path: Path, shape: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write the checkpoint of a model whose configuration is `shape`, which works with the tiny codecs and the tiny text encoder."""
    shapes = build(dict(shape), describe("tiny-untrained"), frozenset({"video", "audio"})).blueprint.shapes
    tensors = {
        CHECKPOINT_PREFIXES[0] + to_original(name): Stored(dtype, whole, partial(fresh_tensor, name, shapes, 0))
        for name, whole in shapes.items()
    }
    said = {"config": json.dumps({"transformer": dict(shape)}), METADATA_KEY: "tiny", "text_fingerprint": text_encoder("tiny").fingerprint}
    write_tensors(path, tensors, {**tiny_metadata(), **said})
