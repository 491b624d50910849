"""Base models: the facts about a checkpoint, and a backbone with only those of its weights that a run needs.

A `model_path` is "tiny" (the base in this package), "tiny-untrained" (fresh weights from a seed), a safetensors file in
the original layout, or a folder in the diffusers layout.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError
from ltxcore.headers import fingerprint
from ltxcore.model_config import building
from ltxcore.models import UNTRAINED
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.build import build, fill
from ltxcore.models.checkpoint_files import Checkpoint, check_tensors, open_checkpoint
from ltxcore.models.connectors import connectors_of
from ltxcore.models.parameter_names import to_original
from ltxcore.models.tiny_model import TINY, fresh_tensor
from ltxcore.models.transformer import TimestepRule
from ltxcore.models.transformer_settings import takes_marker, video_scale_of
from ltxcore.quantizers import QuantizerType
from ltxcore.safetensors_files import Tensors, dtype_of, open_tensors
from ltxcore.strategy import MARKER

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""The dtypes of exported weights, by the value of `checkpoints.precision`."""

CPU = torch.device("cpu")

_MATRIX = 64
"""The least number of rows and columns of a matrix that cannot be all zeros after training; if a matrix of that size
is, the file was not downloaded completely.
"""


def describe(model_path: str) -> ModelInfo:
    """Describe a base model without reading its weights.

    Raises:
        ConfigError: a path that is neither file nor folder.
        CheckpointError: a file or folder that is not a checkpoint of this model.
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
    quantizer: QuantizerType | None = None,
    as_stored: bool = False,
    device: torch.device = CPU,
    offloaded: int = 0,
    with_connectors: bool = True,
) -> LTXBackbone:
    """Load a backbone with the weights of `modalities` in `dtype`, reading each weight directly into its final place.

    Args:
        model_path: "tiny", "tiny-untrained", a file, or a folder.
        modalities: "video", "audio" or both; weights of other streams are not read.
        dtype: the dtype of all weights.
        gradient_checkpointing: whether the blocks' activations are recomputed in the backward pass instead of being kept.
        seed: the seed of the weights of "tiny-untrained".
        rule: the rule for which noise level modulates the attention between the modalities.
        quantizer: stores the blocks' matrices, each as soon as it is read; None for no quantization.
        as_stored: whether the transformer's weights keep the dtype of the file and are its mapped pages, which processes share:
            an engine that divides them converts each part later. 8-bit numbers cannot be computed with and are converted to
            `dtype` anyway.
        device: the device where it will compute. On the CPU, weights are mapped pages of the file until something changes them.
        offloaded: the number of blocks, counted from the first, whose matrices stay in host memory: each goes there once it is
            read and quantized. These blocks compute only after `offload.place`.
        with_connectors: whether to read the text connectors; they are not needed if all text has already passed through them.

    Raises:
        ConfigError: the path is neither a file nor a folder, there is no modality, or the library that quantizes is not
            installed.
        CheckpointError: the file is incomplete, its configuration is missing or unknown, or its tensors do not match its
            configuration; the error names all that are missing, unexpected or of another shape.
    """
    if model_path == UNTRAINED:
        backbone = build(TINY, attrs.evolve(describe(model_path), seed=seed), modalities, rule=rule)
        own = None if as_stored else dtype
        fill(backbone, lambda name: fresh_tensor(name, backbone.blueprint.shapes, seed).to(device), own, quantizer, offloaded)
    else:
        checkpoint = open_checkpoint(model_path)
        backbone = build(checkpoint.transformer, _describe(checkpoint, model_path), modalities, rule=rule)
        check_tensors(checkpoint, backbone.blueprint.shapes)
        with open_tensors(checkpoint.header) as file:
            own = None if as_stored else dtype
            fill(backbone, lambda name: _read(file, checkpoint, name, device, dtype), own, quantizer, offloaded)
        if with_connectors and checkpoint.has_connectors:
            backbone.connectors = connectors_of(checkpoint, modalities, dtype)
    backbone.transformer.gradient_checkpointing = gradient_checkpointing
    return backbone


def _describe(checkpoint: Checkpoint, model_path: str) -> ModelInfo:
    path, metadata = checkpoint.header.where, checkpoint.header.metadata
    name = f"{path.parent.name}/{path.name}" if checkpoint.is_folder else path.name
    with building("a model", checkpoint.where, checkpoint.config):
        layers, scale = int(checkpoint.transformer.get("num_layers", 48)), video_scale_of(checkpoint.config)
    return ModelInfo(
        name="tiny" if model_path == "tiny" else name,
        generation=checkpoint.generation,
        fingerprint=fingerprint(path),
        num_layers=layers,
        video_scale=scale,
        text_fingerprint=metadata.get("text_fingerprint", ""),
        has_connectors=checkpoint.has_connectors,
        takes_marker=takes_marker(checkpoint.transformer),
        marks=metadata.get(MARKER) != "false",
    )


def _read(file: Tensors, checkpoint: Checkpoint, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Read a tensor, by its diffusers name, to a device, in one pass over a large file. It keeps its dtype, except that
    8-bit numbers, which cannot be computed with, are returned in `dtype`.

    Raises:
        CheckpointError: it has values that training cannot produce: not finite, or a whole matrix of zeros.
    """
    stored = checkpoint.stored[to_original(name)]
    tensor = file.get_tensor(stored).to(device)
    if dtype_of(checkpoint.header.slots[stored]).itemsize == 1:
        tensor = tensor.to(dtype)
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{stored} has NaN or infinite values", where=checkpoint.where, remedy="Download or copy it again.")
    if tensor.ndim == 2 and min(tensor.shape) >= _MATRIX and not bool(tensor.any()):
        raise CheckpointError(
            f"{stored} is nothing but zeros: the file was not downloaded completely", where=checkpoint.where, remedy="Download it again."
        )
    return tensor
