"""Functions that describe a base model, and load a backbone with only the weights that a run needs.

A `model_path` is "tiny" (the base in this package), "tiny-untrained" (the same model with fresh weights from a seed), a safetensors file in
the original layout, or a folder in the diffusers layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError
from ltxcore.headers import fingerprint
from ltxcore.modality_tables import MARKER
from ltxcore.model_config import building
from ltxcore.models import UNTRAINED
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.blueprint import blueprint_of_config
from ltxcore.models.build import build, fill
from ltxcore.models.checkpoint_files import Checkpoint, check_tensors, open_checkpoint
from ltxcore.models.connectors import connector_weights, connectors_of
from ltxcore.models.parameter_names import is_of_connectors, to_original
from ltxcore.models.tiny_model import TINY, fresh_tensor
from ltxcore.models.transformer import TimestepRule
from ltxcore.models.transformer_settings import takes_marker, video_scale_of
from ltxcore.quantizers import QuantizerType
from ltxcore.safetensors_files import Tensors, dtype_of, open_tensors, pieces

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""The dtypes of exported weights, by the value of `checkpoints.precision`."""

CPU = torch.device("cpu")

_MATRIX = 64
"""A matrix of zeros with at least this many rows and columns means that the file was not downloaded completely, since training cannot
produce it.
"""


def describe(model_path: str, connectors_path: Path | None = None) -> ModelInfo:
    """Describe a base model without reading its weights.

    Raises:
        ConfigError: the path is neither a file nor a folder.
        CheckpointError: the file or folder is not a checkpoint of this model.
    """
    if model_path == UNTRAINED:
        return ModelInfo(UNTRAINED, "tiny", UNTRAINED, num_layers=TINY["num_layers"])
    return _describe(open_checkpoint(model_path, connectors_path), model_path)


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
    connectors_path: Path | None = None,
) -> LTXBackbone:
    """Load a backbone with the weights of `modalities` in `dtype`. Each weight is read directly into its final place.

    Args:
        model_path: "tiny", "tiny-untrained", a file, or a folder.
        modalities: "video", "audio" or both; weights of other streams are not read.
        dtype: the dtype of all weights.
        gradient_checkpointing: whether the blocks' activations are recomputed in the backward pass instead of being kept.
        seed: the seed of the weights of "tiny-untrained".
        rule: the rule that decides which noise levels modulate the attention between the modalities.
        quantizer: the quantizer that stores each matrix of the blocks as soon as it is read; None for no quantization.
        as_stored: whether the transformer's weights keep the file's dtype and are mapped pages of the file, which processes share. An
            engine that divides the weights converts each part later. 8-bit numbers are converted to `dtype` in any case, since torch
            cannot compute with them.
        device: the device where the backbone will compute. On the CPU, weights are mapped pages of the file until something changes them.
        offloaded: the number of blocks, counting from the first, whose matrices are in host memory. A matrix is moved there once it is read
            and quantized. These blocks can compute only after `offload.place`.
        with_connectors: whether to read the text connectors, which are not needed if all text has already passed through them.
        connectors_path: the separate file of the text connectors; None if the model's own are used.

    Raises:
        ConfigError: the path is neither a file nor a folder, there is no modality, or the quantizer's library is not installed.
        CheckpointError: the file is incomplete, its configuration is missing or unknown, or tensors are missing, unexpected or of another
            shape; the error names all such tensors.
    """
    if model_path == UNTRAINED:
        backbone = build(TINY, attrs.evolve(describe(model_path), seed=seed), modalities, rule=rule)
        own = None if as_stored else dtype
        fill(backbone, lambda name: fresh_tensor(name, backbone.blueprint.shapes, seed).to(device), own, quantizer, offloaded)
    else:
        checkpoint = open_checkpoint(model_path, connectors_path)
        backbone = build(checkpoint.transformer, _describe(checkpoint, model_path), modalities, rule=rule)
        check_tensors(checkpoint, backbone.blueprint.shapes)
        with open_tensors(checkpoint.header) as file:
            own = None if as_stored else dtype
            keeps = getattr(quantizer, "keeps", "")
            fill(
                backbone,
                lambda name: _read(file, checkpoint, name, device, dtype),
                own,
                quantizer,
                offloaded,
                lambda name: _eight_bits(file, checkpoint, name, device, keeps),
            )
        if with_connectors and checkpoint.has_connectors:
            backbone.connectors = connectors_of(checkpoint, modalities, dtype)
    backbone.transformer.gradient_checkpointing = gradient_checkpointing
    return backbone


@contextmanager
def base_weights(model_path: str) -> Iterator[Callable[[str], Tensor]]:
    """Yield a function that reads one parameter of a base model, or of its text connectors, by its diffusers name, in float32.

    Raises:
        ConfigError: the path is neither a file nor a folder.
        CheckpointError: the file or folder is not a checkpoint of this model; or, raised by the function, a parameter cannot be read.
    """
    if model_path == UNTRAINED:
        shapes = blueprint_of_config(TINY, UNTRAINED).shapes
        yield lambda name: fresh_tensor(name, shapes, 0).float()
        return
    checkpoint = open_checkpoint(model_path)
    check_tensors(checkpoint, blueprint_of_config(checkpoint.transformer, checkpoint.where).shapes)
    with open_tensors(checkpoint.header) as file, connector_weights(checkpoint) as apart:
        yield lambda name: apart(name) if is_of_connectors(name) else _read(file, checkpoint, name, CPU, torch.float32).float()


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
    """Read a tensor, by its diffusers name, to a device, in one pass over a large file.

    The tensor keeps its dtype, except that 8-bit numbers, which torch cannot compute with, become `dtype`.

    Raises:
        CheckpointError: the tensor has values that training cannot produce: they are not finite, or a matrix is all zeros.
    """
    stored = checkpoint.stored[to_original(name)]
    tensor = file.get_tensor(stored, dtype).to(device)
    if dtype_of(checkpoint.header.slots[stored]).itemsize == 1:
        tensor = tensor.to(dtype)
    return _checked(tensor, stored, checkpoint)


def _eight_bits(file: Tensors, checkpoint: Checkpoint, name: str, device: torch.device, keeps: str) -> tuple[Tensor, Tensor] | None:
    """Return a matrix as a file stores it, in 8-bit numbers `[out, in]` of the dtype that a quantizer keeps, and the factors of its rows
    `[out, 1]` in float32; None if it is stored in another form.

    Raises:
        CheckpointError: as in `_read`.
    """
    stored = checkpoint.stored[to_original(name)]
    if str(dtype_of(checkpoint.header.slots[stored])) != f"torch.{keeps}":
        return None
    weight, scale = file.stored(stored)
    rows = (torch.ones(1) if scale is None else scale).float().reshape(-1, 1).expand(weight.shape[0], 1).contiguous()
    weight, rows = weight.to(device), rows.to(device)
    for part in pieces(weight):
        _check_finite(weight[part].float() * rows[part], stored, checkpoint)
    return weight, rows


def _check_finite(tensor: Tensor, stored: str, checkpoint: Checkpoint) -> None:
    """Refuse values that are not finite. If their sum is finite, all are, and a sum takes no memory; it may also be infinite if it is too
    large.
    """
    if bool(tensor.sum().isfinite()):
        return
    rows = tensor if tensor.ndim else tensor[None]
    if not all(bool(rows[part].isfinite().all()) for part in pieces(rows)):
        raise CheckpointError(f"{stored} has NaN or infinite values", where=checkpoint.where, remedy="Download or copy the file again.")


def _checked(tensor: Tensor, stored: str, checkpoint: Checkpoint) -> Tensor:
    """Return a tensor, unless it has values that training cannot produce."""
    _check_finite(tensor, stored, checkpoint)
    if tensor.ndim == 2 and min(tensor.shape) >= _MATRIX and not bool(tensor.any()):
        raise CheckpointError(
            f"{stored} contains only zeros: the file was not downloaded completely", where=checkpoint.where, remedy="Download it again."
        )
    return tensor
