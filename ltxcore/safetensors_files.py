"""Read the tensors of safetensors and GGUF files one by one, and write safetensors files completely or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError
from ltxcore.gguf_files import PACKED, unpacked
from ltxcore.headers import Slot, Slots, read_file, read_folder

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
    **dict.fromkeys(PACKED, torch.bfloat16),
}
"""The dtypes of tensors that are read, by their names in files; packed weights become bfloat16."""

AT_ONCE = 2**18
"""The number of values that are converted at a time, so that converting a large tensor takes little memory beside the result."""

_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name not in PACKED}


@attrs.frozen
class Stored:
    """A tensor to be written, whose dtype and shape are known now and whose values are computed when they are needed."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    values: Callable[[], Tensor]


@attrs.frozen(eq=False)
class Tensors:
    """An open safetensors file, or several open files that are the parts of a model. On the CPU, tensors are
    memory-mapped and not copied, except for 8-bit weights with a scale and tensors of GGUF files.
    """

    slots: Mapping[str, Slot]
    open_file: Callable[[Path], Any]
    device: str = "cpu"

    def names(self) -> list[str]:
        return sorted(self.slots)

    def get_tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Read a tensor. A tensor with a scale is multiplied by the scale; the result then has the dtype that `scaled` gives it.

        Args:
            name: the name of the tensor.
            dtype: the dtype of the products of 8-bit numbers and their scale; None for float32.

        Raises:
            CheckpointError: a file has changed since its header was read.
        """
        stored, scale = self.stored(name)
        return stored if scale is None else scaled(stored, scale, dtype)

    def stored(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Read a tensor as it is stored, and its scale; None if it has no scale.

        Raises:
            CheckpointError: a file has changed since its header was read.
        """
        slot = self.slots[name]
        return self._stored(name, slot), None if slot.scale is None else self._stored(*slot.scale)

    def _stored(self, name: str, slot: Slot) -> Tensor:
        from safetensors import SafetensorError

        if slot.is_gguf:
            return self._unpacked(slot)
        try:
            tensor: Tensor = self.open_file(slot.file).get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"is damaged: {error}", where=str(slot.file), remedy="Download or copy the file again.") from None
        return tensor

    def _unpacked(self, slot: Slot) -> Tensor:
        values = torch.empty(slot.count, dtype=_DTYPES[slot.dtype])
        start = 0
        for piece in unpacked(slot.file, slot.dtype, slot.count, slot.start, slot.end, AT_ONCE):
            values[start : start + len(piece)] = torch.from_numpy(piece)
            start += len(piece)
        return values.reshape(slot.shape).to(self.device)


@contextlib.contextmanager
def open_tensors(header: Slots, device: str = "cpu") -> Iterator[Tensors]:
    """Open the file or the parts that a header describes, so that tensors can be read one by one directly to `device`."""
    from safetensors import safe_open

    files: dict[Path, Any] = {}
    with contextlib.ExitStack() as stack:

        def opened(file: Path) -> Any:
            if file not in files:
                files[file] = stack.enter_context(safe_open(file, framework="pt", device=device))
            return files[file]

        yield Tensors(header.slots, opened, device)


def scaled(stored: Tensor, scale: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Multiply stored numbers by their scale, a few rows at a time. The result has the dtype of the numbers unless they have 8 bits.

    Args:
        stored: the stored numbers, `[rows, ...]`.
        scale: a single scale for all numbers, `[]` or `[1]`, or a scale for each row, `[rows]` or `[rows, 1]`.
        dtype: the dtype of the result if the numbers have 8 bits; None for float32. The products are computed in float32.

    Source: docs/explanation/arithmetic.md#scaled-weights-of-a-checkpoint
    """
    if not stored.ndim:
        return scaled(stored[None], scale, dtype)[0]
    made = torch.empty(stored.shape, dtype=(dtype or torch.float32) if stored.dtype.itemsize == 1 else stored.dtype, device=stored.device)
    factors = scale.float().reshape(-1, *(1 for _ in stored.shape[1:]))
    for rows in pieces(stored):
        made[rows] = stored[rows].float() * (factors if len(factors) == 1 else factors[rows])
    return made


def pieces(tensor: Tensor) -> Iterator[slice]:
    """Yield ranges of rows that cover a tensor of at least one dimension, each of about `AT_ONCE` values or, if that is more, of one row."""
    step = max(1, AT_ONCE * len(tensor) // max(1, tensor.numel()))
    yield from (slice(start, start + step) for start in range(0, len(tensor), step))


def read_header(path: Path) -> Slots:
    """Read the header of a safetensors file, or of all files of a folder, without reading any tensor.

    Raises:
        CheckpointError: for the reasons of `read_file` and `read_folder`, or because a dtype is unknown.
    """
    found = read_folder(path) if path.is_dir() else read_file(path)
    for name, slot in found.slots.items():
        if slot.dtype not in _DTYPES:
            raise CheckpointError(
                f"the tensor {name} has dtype {slot.dtype}, which is not supported",
                where=str(slot.file),
                remedy=f"Use a file of {', '.join(sorted(PACKED))}, or a bf16 file." if slot.is_gguf else "Use a bf16 file.",
            )
    return found


def dtype_of(slot: Slot) -> torch.dtype:
    """Return the dtype of a tensor; if it has a scale, the dtype of the product."""
    return _DTYPES[slot.dtype]


def write_tensors(path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file directly, with one tensor in memory at a time. Use this function on a path from
    `ltxcore.files.replacing`.

    Raises:
        CheckpointError: the disk has no room for the file.
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
            f"the disk has {free / 2**30:.1f} GiB free, but {size / 2**30:.1f} GiB are needed",
            where=str(path.parent),
            remedy="Free some space, or choose a folder on another disk.",
        )
