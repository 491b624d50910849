"""Base models: what a checkpoint is, and a backbone with the weights that a run needs of it.

A `model_path` is "tiny" (the base in this package), "tiny-untrained" (fresh weights from a seed), or a safetensors file in the original
layout, whose metadata says the configuration: a transformer alone, or a file that holds the codecs too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError, ConfigError, Problem, listed
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.build import build, fill
from ltxcore.models.files import Header, fingerprint, open_tensors, read_header
from ltxcore.models.keys import CHECKPOINT_PREFIXES, to_original
from ltxcore.models.settings import checkpoint_config, generation_of, transformer_config, video_scale_of
from ltxcore.models.tiny import TINY, fresh_tensor
from ltxcore.models.transformer import TimestepRule

TINY_BASE = Path(__file__).parent / "tiny_base.safetensors"
UNTRAINED = "tiny-untrained"

_CONNECTORS = ("video_embeddings_connector.", "audio_embeddings_connector.")
_OTHER_PARTS = ("vae.", "audio_vae.", "vocoder.", "text_embedding_projection.")


@attrs.frozen
class Checkpoint:
    """A base model's file.

    Attributes:
        header: of the file.
        prefix: what the transformer's names begin with.
        names: of the transformer's tensors, without prefix; original names.
        has_connectors: whether it holds text connectors.
    """

    header: Header
    prefix: str
    names: tuple[str, ...]
    has_connectors: bool

    @property
    def where(self) -> str:
        return str(self.header.path)


def describe(model_path: str) -> ModelInfo:
    """What a base model is; no weights are read.

    Raises:
        ConfigError: a path that is no file.
        CheckpointError: a file that is no checkpoint of this model.
    """
    if model_path == UNTRAINED:
        return ModelInfo(UNTRAINED, "tiny", UNTRAINED, num_layers=TINY["num_layers"])
    return _describe(open_checkpoint(model_path), model_path)


def load_backbone(
    model_path: str,
    modalities: frozenset[str],
    *,
    dtype: torch.dtype,
    gradient_checkpointing: bool = False,
    seed: int = 0,
    rule: TimestepRule = "split",
) -> LTXBackbone:
    """A backbone on the CPU with the weights of `modalities`, in `dtype`.

    Args:
        model_path: "tiny", "tiny-untrained", or a file.
        modalities: "video", "audio" or both; weights of other streams are not read.
        dtype: of all weights.
        gradient_checkpointing: whether blocks are computed again in the backward pass instead of kept.
        seed: of the weights of "tiny-untrained".
        rule: which noise level modulates the attention between the modalities.

    Raises:
        ConfigError: a path that is no file, or no modality.
        CheckpointError: a file that is truncated, whose configuration is missing or not known, or whose tensors are not those of its
            configuration: all that are missing, unexpected or of another shape.
    """
    if model_path == UNTRAINED:
        backbone = build(TINY, attrs.evolve(describe(model_path), seed=seed), modalities, rule=rule)
        fill(backbone, lambda name: fresh_tensor(name, backbone.blueprint.shapes, seed), dtype)
    else:
        checkpoint = open_checkpoint(model_path)
        official = transformer_config(checkpoint.header.metadata, checkpoint.where)
        backbone = build(official, _describe(checkpoint, model_path), modalities, rule=rule)
        check_tensors(checkpoint, backbone.blueprint.shapes)
        with open_tensors(checkpoint.header.path) as file:
            fill(backbone, lambda name: _read(file, checkpoint.prefix + to_original(name)), dtype)
    backbone.transformer.gradient_checkpointing = gradient_checkpointing
    return backbone


def open_checkpoint(model_path: str) -> Checkpoint:
    """The header of a base model's file, with the transformer found in it.

    Raises:
        ConfigError: a path that is no file.
        CheckpointError: a file that is truncated, or holds no transformer or things that are not known.
    """
    path = _path(model_path)
    header = read_header(path)
    prefix = next((p for p in CHECKPOINT_PREFIXES if any(name.startswith(p) for name in header.shapes)), None)
    if prefix is None:
        raise CheckpointError(
            f'it holds no transformer: no tensor\'s name begins with "{CHECKPOINT_PREFIXES[0]}"',
            where=str(path),
            remedy="Name the checkpoint of the transformer, in the official layout.",
        )
    foreign = [name for name in header.shapes if not name.startswith((prefix, *_OTHER_PARTS))]
    if foreign:
        raise CheckpointError(f"it holds tensors that are part of no known model: {listed(foreign)}", where=str(path))
    names = [name.removeprefix(prefix) for name in header.shapes if name.startswith(prefix)]
    own = tuple(name for name in names if not name.startswith(_CONNECTORS))
    return Checkpoint(header, prefix, own, has_connectors=len(own) < len(names))


def check_tensors(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose transformer is not exactly the parameters of its configuration (`shapes`, names of diffusers).

    Raises:
        CheckpointError: for all tensors that are missing, unexpected or of another shape.
    """
    expected = {to_original(name): shape for name, shape in shapes.items()}
    found = {name: checkpoint.header.shapes[checkpoint.prefix + name] for name in checkpoint.names}
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    wrong = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    problems = []
    if missing:
        problems.append(Problem(f"{len(missing)} tensors are missing: {listed(missing)}", checkpoint.where))
    if unexpected:
        problems.append(Problem(f"{len(unexpected)} tensors are not part of the model: {listed(unexpected)}", checkpoint.where))
    if wrong:
        shown = (f"{name} is {list(found[name])} and should be {list(expected[name])}" for name in wrong)
        problems.append(Problem(f"{len(wrong)} tensors have the wrong shape: {listed(shown)}", checkpoint.where))
    if problems:
        raise CheckpointError.of(problems)


def _path(model_path: str) -> Path:
    if model_path == "tiny":
        return TINY_BASE
    path = Path(model_path)
    if path.is_dir():
        raise ConfigError(
            "model_path is a folder; folders in the layout of diffusers are not read",
            where=model_path,
            remedy="Name the safetensors file in the official layout.",
        )
    if not path.exists():
        raise ConfigError("model_path names no file", where=model_path, remedy='Check the path, or use "tiny".')
    return path


def _describe(checkpoint: Checkpoint, model_path: str) -> ModelInfo:
    metadata, where = checkpoint.header.metadata, checkpoint.where
    config, official = checkpoint_config(metadata, where), transformer_config(metadata, where)
    return ModelInfo(
        name="tiny" if model_path == "tiny" else checkpoint.header.path.name,
        generation=metadata.get("generation") or generation_of(official, metadata.get("model_version", "")),
        fingerprint=fingerprint(checkpoint.header.path),
        num_layers=int(official.get("num_layers", 48)),
        video_scale=video_scale_of(config),
        text_fingerprint=metadata.get("text_fingerprint", ""),
        has_connectors=checkpoint.has_connectors,
    )


def _read(file: Any, name: str) -> Tensor:
    tensor: Tensor = file.get_tensor(name)
    return tensor
