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
from ltxcore.headers import Slot, Slots, is_index, read_file, read_folder, scaled

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
    """What a safetensors file, the index of one in parts, or a folder, says of itself.

    Attributes:
        path: the file, index or folder.
        metadata: of the file, or its first part; empty for a folder.
        shapes: of every tensor, by name.
        dtypes: of every tensor, by name; where it has a scale, of the numbers that are multiplied by it.
        scaled: names of the tensors that have a scale.
    """

    path: Path
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    scaled: frozenset[str] = frozenset()


@attrs.frozen
class Stored:
    """A tensor to be written: its dtype and shape now, its values when its turn comes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    values: Callable[[], Tensor]


@attrs.frozen(eq=False)
class Tensors:
    """An open safetensors file, or an open folder of parts of one. Tensors are mapped into memory, not copied, but for 8-bit weights with a scale."""

    slots: Mapping[str, Slot]
    open_file: Callable[[Path], Any]

    def names(self) -> list[str]:
        return sorted(self.slots)

    def get_tensor(self, name: str) -> Tensor:
        """A tensor as it is stored; or, where it is stored with a scale, multiplied by that, in float32."""
        slot = self.slots[name]
        tensor: Tensor = self.open_file(slot.file).get_tensor(name)
        if slot.scale is None:
            return tensor
        scale, place = slot.scale
        return scaled(tensor, self.open_file(place.file).get_tensor(scale))


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Tensors]:
    """A safetensors file or a folder of parts of one, opened for reading tensors one by one.

    Raises:
        CheckpointError: where it is missing, not whole, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    found = _slots(path)
    files: dict[Path, Any] = {}
    with contextlib.ExitStack() as stack:

        def opened(file: Path) -> Any:
            if file not in files:
                files[file] = stack.enter_context(safe_open(file, framework="pt"))
            return files[file]

        try:
            yield Tensors(found.slots, opened)
        except SafetensorError as error:  # the file changed since its header was read
            raise CheckpointError(f"is damaged: {error}", where=str(path), remedy="Download or copy it again.") from None


def read_header(path: Path) -> Header:
    """The header of a safetensors file, or of all files of a folder; no tensor is read.

    Raises:
        CheckpointError: as `open_tensors`, and for a dtype that is not known.
    """
    found = _slots(path)
    for name, slot in found.slots.items():
        if slot.dtype not in _DTYPES:
            raise CheckpointError(
                f"the tensor {name} has dtype {slot.dtype}, which is not read", where=str(slot.file), remedy="Use a bf16 file."
            )
    shapes = {name: slot.shape for name, slot in found.slots.items()}
    dtypes = {name: _DTYPES[slot.dtype] for name, slot in found.slots.items()}
    return Header(path, found.metadata, shapes, dtypes, frozenset(name for name, slot in found.slots.items() if slot.scale is not None))


def _slots(path: Path) -> Slots:
    return read_folder(path) if path.is_dir() else read_file(path)


def fingerprint(path: Path) -> str:
    """A hash of a file's size, its beginning and 64 samples spread over it: seconds, not minutes, for 40 GB. Of a folder or index: of all its weights."""
    digest = hashlib.sha256()
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else read_file(path).files if is_index(path) else [path]
    for file in files:
        _add_samples(digest, file)
    return digest.hexdigest()[:32]


def _add_samples(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        digest.update(file.read(min(length, size)))
        for i in range(_SAMPLES):
            file.seek(i * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))


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
