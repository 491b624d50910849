"""The golden models in every layout that a base model comes in. Folders are written by diffusers itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers.golden_connectors import SETTINGS, connector_tensors
from helpers.golden_models import PREFIX, golden_config, golden_weights, stock_model

CODECS = {
    "vae.encoder.conv_in.weight": torch.zeros(2),
    "audio_vae.decoder.conv.weight": torch.zeros(2),
    "vocoder.conv_pre.weight": torch.zeros(2),
    "text_embedding_projection.aggregate_embed.weight": torch.zeros(2),
}
VERSIONS = {"A": "2.0.0", "B": "2.3.1", "C": "2.5.0"}


def told(name: str) -> str:
    """The configuration of a golden model with connectors."""
    connectors = {key: value for key, value in SETTINGS.items() if "connector_" in key and not key.startswith("caption")}
    return json.dumps({"transformer": golden_config(name) | connectors})


def transformer(name: str) -> dict[str, torch.Tensor]:
    return {PREFIX + key: value for key, value in golden_weights(name).items()} | connector_tensors()


def unified(name: str, folder: Path) -> Path:
    """Transformer, connectors and codecs in one file."""
    path = folder / f"{name}.safetensors"
    save_file(transformer(name) | CODECS, path, metadata={"config": told(name)})
    return path


def split(name: str, folder: Path) -> Path:
    """The transformer with its connectors in a file of its own, which says its version."""
    path = folder / "transformer-bf16.safetensors"
    save_file(transformer(name), path, metadata={"config": told(name), "model_version": VERSIONS[name]})
    return path


def folder(name: str, place: Path, *, parts: bool = False, called: str = "transformer") -> Path:
    """A folder of diffusers; with `parts`, in several files and their index."""
    model = stock_model(name).to(torch.bfloat16)
    model.save_pretrained(place / called, max_shard_size="100KB" if parts else "5GB")
    (place / "model_index.json").write_text("{}")
    return place


def parts(name: str, place: Path) -> Path:
    return folder(name, place, parts=True)


def beside_a_distilled_one(name: str, place: Path) -> Path:
    """`transformer_full`, and a `transformer` with other weights."""
    folder(name, place, called="transformer_full")
    shutil.copytree(place / "transformer_full", place / "transformer")
    path = place / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({key: torch.full(value.shape, 0.5, dtype=value.dtype) for key, value in tensors_of(path).items()}, path)
    return place


def its_own_folder(name: str, place: Path) -> Path:
    return folder(name, place) / "transformer"


def tensors_of(path: Path) -> Mapping[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


LAYOUTS: Mapping[str, Callable[[str, Path], Path]] = {
    "unified": unified,
    "split": split,
    "folder": folder,
    "parts": parts,
    "beside a distilled one": beside_a_distilled_one,
    "its own folder": its_own_folder,
}
