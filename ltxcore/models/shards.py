"""A model's file; or, where that would be larger than asked, parts of it and their index, in the layout of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ltxcore.files import replacing, write_whole
from ltxcore.headers import INDEX
from ltxcore.models.safetensors_files import Stored, write_tensors


def write_sharded(
    path: Path,
    tensors: Mapping[str, Stored],
    metadata: Mapping[str, str],
    largest: int | None = None,
    check: Callable[[Path], object] = lambda path: None,
) -> Path:
    """Write a file, or NAME-00001-of-00003.safetensors and so on, and last NAME.safetensors.index.json, each of them whole or not there.

    Args:
        path: of the file, NAME.safetensors.
        tensors: by name.
        metadata: of the file, or of every part.
        largest: bytes of tensors in a file; a tensor that is larger has a file of its own. None: one file.
        check: raises what is wrong with a file, before it takes its place, or with an index, which is removed again.

    Returns:
        The file, or the index.

    Raises:
        CheckpointError: where the disk has no room for it.
    """
    parts = divided(tensors, largest)
    if len(parts) == 1:
        with replacing(path) as beside:
            write_tensors(beside, tensors, metadata)
            check(beside)
        return path
    placed: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = path.with_name(f"{path.stem}-{number:05d}-of-{len(parts):05d}{path.suffix}")
        with replacing(file) as beside:
            write_tensors(beside, part, metadata)
        placed |= dict.fromkeys(part, file.name)
    index = path.with_name(path.name + INDEX)
    said = {"metadata": {"total_size": sum(map(size_of, tensors.values()))}, "weight_map": placed}
    write_whole(index, json.dumps(said, indent=1).encode())
    try:
        check(index)
    except BaseException:
        index.unlink()
        raise
    return index


def divided(tensors: Mapping[str, Stored], largest: int | None) -> list[dict[str, Stored]]:
    """Tensors in order of their names, in as few parts as they fill one after the other."""
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
    """Bytes of a tensor in a file."""
    return stored.dtype.itemsize * torch.Size(stored.shape).numel()
