"""Functions that save a whole model as a checkpoint in the original layout, or a transformer in the layout of diffusers.

The model is written as a single file or, if this would exceed the given size, as parts with an index in the Hugging Face layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ltxcore.errors import CheckpointError
from ltxcore.files import replacing, write_whole
from ltxcore.headers import INDEX, fingerprint, read_json
from ltxcore.models import UNTRAINED
from ltxcore.models.adapters import adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.checkpoint_files import Checkpoint, check_tensors, open_checkpoint
from ltxcore.models.parameter_names import CHECKPOINT_PREFIXES, to_original
from ltxcore.models.tiny_model import fresh_tensor, tiny_metadata
from ltxcore.models.transformer_settings import diffusers_arguments
from ltxcore.safetensors_files import Stored, Tensors, dtype_of, open_tensors, write_tensors

WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
"""The names of the weights and of the configuration in a folder of diffusers."""

_DIFFUSERS_CLASS = "LTX2VideoTransformer3DModel"
_QUANTIZED = "_quantization_metadata"
"""The metadata key under which ComfyUI's files name their 8-bit weights. It is dropped, since a saved model has no such weights."""


def save_full(
    backbone: LTXBackbone,
    path: Path,
    *,
    base: str,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    weight: Callable[[str], Tensor] | None = None,
    largest: int | None = None,
) -> Path:
    """Save the backbone's weights as a checkpoint, which is completed from the base.

    What the backbone does not hold is copied bit for bit, except for 8-bit weights with a scale, which are written in `dtype`.

    The base provides the streams that were not loaded, the codecs in the same file, and the metadata with the configuration. The file
    appears complete or not at all. `load_backbone` can load it again; if it was written in parts, `load_backbone` takes the index.

    Args:
        backbone: the backbone, without adapters.
        path: the file to write.
        base: the `model_path` that the backbone was loaded from.
        dtype: the dtype of the backbone's weights in the file.
        metadata: further metadata of the file, which replaces the base's metadata of the same name.
        weight: a function that returns a whole parameter by its name in `backbone.named_parameters()`, if this process holds only a part of
            each parameter; None if it holds whole parameters.
        largest: the maximum number of bytes of tensors in a file; a larger model is written in parts, with an index. None means one file,
            whatever its size.

    Returns:
        The file, or the index.

    Raises:
        CheckpointError: the backbone has adapters or was loaded from another base, or the disk is full.
    """
    if adapters(backbone):
        raise CheckpointError("a model with adapters is saved as a LoRA, not as a whole model", where=str(path), remedy="Use save_lora.")
    if base == UNTRAINED:
        _refuse_other_base(backbone, base, UNTRAINED)
        kept = _fresh(backbone, dtype)
        own = _own(backbone, CHECKPOINT_PREFIXES[0], dtype, weight)
        return _write(backbone, path, {**kept, **own}, {**tiny_metadata(), **metadata}, largest)
    checkpoint = open_checkpoint(base)
    _refuse_other_base(backbone, base, fingerprint(checkpoint.header.where))
    with open_tensors(checkpoint.header) as file:
        kept, prefix, said = rest_of_base(checkpoint, file, dtype)
        return _write(backbone, path, {**kept, **_own(backbone, prefix, dtype, weight)}, {**said, **metadata}, largest)


def rest_of_base(checkpoint: Checkpoint, file: Tensors, dtype: torch.dtype) -> tuple[dict[str, Stored], str, Mapping[str, str]]:
    """Return a base's tensors in original names, the prefix of the transformer's names, and the metadata of a file that holds them.

    Args:
        checkpoint: the base.
        file: the open base.
        dtype: the dtype of the tensors that have a scale in the base.
    """

    def stored(name: str) -> Stored:
        # The scale of an 8-bit weight is not written; the weight is written as it was read, already scaled.
        slot = file.slots[name]
        return Stored(dtype if slot.scale else dtype_of(slot), slot.shape, lambda: file.get_tensor(name))

    if not checkpoint.is_folder:
        said = {key: value for key, value in checkpoint.header.metadata.items() if key != _QUANTIZED}
        return {name: stored(name) for name in file.slots}, checkpoint.prefix, said
    prefix = CHECKPOINT_PREFIXES[0]
    metadata = {"config": json.dumps(checkpoint.config), "format": "pt"}
    return {prefix + name: stored(found) for name, found in checkpoint.stored.items()}, prefix, metadata


def _own(backbone: LTXBackbone, prefix: str, dtype: torch.dtype, weight: Callable[[str], Tensor] | None) -> dict[str, Stored]:
    """Return the backbone's weights in original names."""
    read = weight or backbone.get_parameter
    names = (name for name, _ in backbone.transformer.named_parameters())
    return {
        prefix + to_original(name): Stored(dtype, backbone.blueprint.shapes[name], partial(read, f"transformer.{name}")) for name in names
    }


def _write(backbone: LTXBackbone, path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str], largest: int | None) -> Path:
    def check(written: Path) -> None:
        check_tensors(open_checkpoint(str(written)), backbone.blueprint.shapes)

    return write_sharded(path, tensors, metadata, largest, check)


def _fresh(backbone: LTXBackbone, dtype: torch.dtype) -> dict[str, Stored]:
    """Return the whole untrained model that the backbone is a part of."""
    shapes, seed = backbone.blueprint.shapes, backbone.info.seed or 0

    def stored(name: str) -> Stored:
        return Stored(dtype, shapes[name], lambda: fresh_tensor(name, shapes, seed))

    return {CHECKPOINT_PREFIXES[0] + to_original(name): stored(name) for name in shapes}


def _refuse_other_base(backbone: LTXBackbone, base: str, found: str) -> None:
    if found != backbone.fingerprint:
        raise CheckpointError(
            f'the model was loaded from "{backbone.info.name}", but this is a different base model (its fingerprint differs)',
            where=base,
            remedy="Name the file that the run was started from.",
        )


def write_sharded(
    path: Path,
    tensors: Mapping[str, Stored],
    metadata: Mapping[str, str],
    largest: int | None = None,
    check: Callable[[Path], object] = lambda path: None,
) -> Path:
    """Write a single file, or parts NAME-00001-of-00003.safetensors and so on, followed by NAME.safetensors.index.json. Each file appears
    complete or not at all.

    Args:
        path: the file to write, NAME.safetensors.
        tensors: the tensors, by name.
        metadata: the metadata of the file, or of every part.
        largest: the maximum number of bytes of tensors in a file; a larger tensor gets a file of its own. None means one file.
        check: a function that raises an error if something is wrong with a file or an index. It is called before a file is put in place,
            and after an index is; a faulty index is removed.

    Returns:
        The file, or the index.

    Raises:
        CheckpointError: there is not enough room on the disk.
    """
    parts = divided(tensors, largest)
    if len(parts) == 1:
        with replacing(path) as beside:
            write_tensors(beside, tensors, metadata)
            check(beside)
        return path
    placed: dict[str, str] = {}
    *files, index = written_files(path, tensors, largest)
    for file, part in zip(files, parts, strict=True):
        with replacing(file) as beside:
            write_tensors(beside, part, metadata)
        placed |= dict.fromkeys(part, file.name)
    said = {"metadata": {"total_size": sum(map(size_of, tensors.values()))}, "weight_map": placed}
    write_whole(index, json.dumps(said, indent=1).encode())
    try:
        check(index)
    except BaseException:
        index.unlink()
        raise
    return index


def write_diffusers(
    folder: Path, checkpoint: Checkpoint, tensors: Mapping[str, Stored], metadata: Mapping[str, str], largest: int | None = None
) -> None:
    """Write the folder of a transformer in the layout of diffusers: its configuration, and its weights in one file or in parts.

    Args:
        folder: the folder, which is made if there is none.
        checkpoint: the model whose configuration is written.
        tensors: the tensors, by diffusers' names.
        metadata: the metadata of the file, or of every part.
        largest: the maximum number of bytes of tensors in a file; None means one file.

    Raises:
        CheckpointError: there is not enough room on the disk.
    """
    where = checkpoint.header.where
    if checkpoint.is_folder:
        config = read_json(where / CONFIG)
    else:
        config = {"_class_name": _DIFFUSERS_CLASS, **diffusers_arguments(checkpoint.transformer, str(where))}
    folder.mkdir(parents=True, exist_ok=True)
    write_sharded(folder / WEIGHTS, tensors, {"format": "pt", **metadata}, largest)
    write_whole(folder / CONFIG, json.dumps(config, indent=2).encode())
    check_tensors(open_checkpoint(str(folder)), {name: each.shape for name, each in tensors.items()})


def written_files(path: Path, tensors: Mapping[str, Stored], largest: int | None = None) -> list[Path]:
    """Return the files that `write_sharded` writes: a single one, or the parts and, as the last, their index."""
    count = len(divided(tensors, largest))
    if count == 1:
        return [path]
    parts = (path.with_name(f"{path.stem}-{number:05d}-of-{count:05d}{path.suffix}") for number in range(1, count + 1))
    return [*parts, path.with_name(path.name + INDEX)]


def divided(tensors: Mapping[str, Stored], largest: int | None) -> list[dict[str, Stored]]:
    """Divide tensors among files in the order of their names, where each file is filled before the next one begins."""
    parts: list[dict[str, Stored]] = [{}]
    filled = 0
    for name in sorted(tensors):
        size = size_of(tensors[name])
        if largest is not None and parts[-1] and filled + size > largest:
            parts.append({})
            filled = 0
        parts[-1][name] = tensors[name]
        filled += size
    return parts


def size_of(stored: Stored) -> int:
    """Return the number of bytes that a tensor takes in a file."""
    return stored.dtype.itemsize * torch.Size(stored.shape).numel()
