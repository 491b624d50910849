"""Safetensors files: headers read without their tensors, and files written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError

_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_SAMPLES, _SAMPLE_BYTES = 64, 4096


@attrs.frozen
class Header:
    """What a safetensors file says of itself: its metadata, and the shape and dtype of every tensor."""

    path: Path
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]


@attrs.frozen
class Stored:
    """A tensor to be written: its dtype and shape now, its values when its turn comes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    values: Callable[[], Tensor]


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, opened for reading tensors one by one.

    Raises:
        CheckpointError: where it is missing, truncated, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError("there is no such file", where=str(path), remedy="Check the path, or download the file.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(
            f"the file is truncated, or is no safetensors file ({error})", where=str(path), remedy="Download or copy it again."
        ) from None


def read_header(path: Path) -> Header:
    """The header of a safetensors file; no tensor is read.

    Raises:
        CheckpointError: as `open_tensors`, and for a dtype that is not known.
    """
    shapes, dtypes = {}, {}
    with open_tensors(path) as file:
        for name in file.keys():  # noqa: SIM118 (a file is no mapping)
            tensor = file.get_slice(name)
            shapes[name] = tuple(tensor.get_shape())
            dtype = str(tensor.get_dtype())
            if dtype not in _DTYPES:
                raise CheckpointError(f"the tensor {name} has dtype {dtype}, which is not read", where=str(path), remedy="Use a bf16 file.")
            dtypes[name] = _DTYPES[dtype]
        return Header(path, file.metadata() or {}, shapes, dtypes)


def fingerprint(path: Path) -> str:
    """A hash of a file's size, its beginning and 64 samples spread over it: seconds, not minutes, for 40 GB."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        digest.update(file.read(min(length, size)))
        for i in range(_SAMPLES):
            file.seek(i * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def write_tensors(path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in place, one tensor in memory at a time. Use it on a path from `ltxcore.files.replacing`.

    Raises:
        CheckpointError: where the disk has no room for it.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in order:
        stored = tensors[name]
        end = offset + stored.dtype.itemsize * torch.Size(stored.shape).numel()
        entries[name] = {"dtype": _DTYPE_NAMES[stored.dtype], "shape": list(stored.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    _check_room(path, len(header) + offset)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in order:
            file.write(_bytes(name, tensors[name]))


def _bytes(name: str, stored: Stored) -> memoryview:
    values = stored.values().detach().to("cpu", stored.dtype).contiguous()
    if tuple(values.shape) != stored.shape:
        raise ValueError(f"{name} was announced as {stored.shape} and is {tuple(values.shape)}")
    return values.reshape(-1).view(torch.uint8).numpy().data


def _check_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise CheckpointError(
            f"the disk has {free / 2**30:.1f} GiB free and {size / 2**30:.1f} GiB are needed",
            where=str(path.parent),
            remedy="Make room, or choose another output_dir.",
        )
