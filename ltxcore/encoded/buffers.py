"""Files of samples in memory: each is read into memory of its own, and its tensors are views of that memory, so nothing is copied."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

import attrs
import numpy
import torch
from torch import Tensor

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
"""The dtypes of tensors that are taken without copying, by their names in safetensors files."""


def read_buffer(path: Path, most: int, begin: int = 0, size: int | None = None) -> memoryview | int:
    """Read an ordinary file, or `size` bytes of it from `begin`, into memory that can be written; or return the number of bytes if it is
    larger than `most`.

    The file is not memory-mapped, because a file that shrinks while it is mapped kills the process. A device or a named pipe is refused
    without being opened, since reading a pipe may wait forever.

    Raises:
        OSError: the file cannot be read, or is not an ordinary file.
    """
    status = os.stat(path)  # noqa: PTH116 - a Path's own method takes several times as long, which counts for small files
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # for a folder, the system's error is clearer
        raise OSError(errno.EINVAL, "it is a named pipe or a device, not an ordinary file", str(path))
    size = status.st_size if size is None else size
    if size > most:
        return size
    with io.FileIO(path) as file:
        file.seek(begin)
        data = numpy.empty(size, dtype=numpy.uint8).data
        read = file.readinto(data)
        while read < len(data) and (some := file.readinto(data[read:])):  # a system may give a part at a time, or the file became shorter
            read += some
    return data[:read]


@attrs.frozen
class Slot:
    """A tensor in a file: its dtype and shape, the number of bytes from the end of the header to the tensor, and its size in bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    size: int


def plain_tensors(data: memoryview) -> tuple[Mapping[str, str], dict[str, Tensor]] | None:
    """Return the metadata and the tensors of a safetensors file, as views of its bytes; None in the cases in which `plain_slots` returns
    None.
    """
    found = plain_slots(data, len(data))
    if found is None:
        return None
    told, slots = found
    begin = 8 + struct.unpack_from("<Q", data)[0]
    return told, {name: _view(data, begin + slot.begin, slot) for name, slot in slots.items()}


def plain_slots(data: memoryview, whole: int) -> tuple[Mapping[str, str], dict[str, Slot]] | None:
    """Return the metadata and the places of the tensors of a safetensors file.

    The result is None for a file that has other dtypes, that has gaps between tensors, or that is damaged in any way: such a file has to be
    read by the library, which says what is wrong with it.

    Args:
        data: the file, or its beginning; the result is None if the header is longer.
        whole: the size of the file in bytes.
    """
    try:
        (size,) = struct.unpack_from("<Q", data)
        begin = 8 + size
        if begin > len(data) or bytes(data[8:9]) != b"{":
            return None
        header = json.loads(str(data[8:begin], "utf-8"))
        told = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in told.values()):
            return None
        places = sorted((*slot["data_offsets"], name, slot["dtype"], slot["shape"]) for name, slot in header.items())
        ends = [0, *(each[1] for each in places)]
        if any(each[0] != end for each, end in zip(places, ends, strict=False)) or begin + ends[-1] != whole:
            return None
        return told, {name: _slot(begin, first, last - first, dtype, shape) for first, last, name, dtype, shape in places}
    except (ValueError, TypeError, KeyError, AttributeError, LookupError, struct.error, RecursionError):
        return None


def _slot(header: int, first: int, size: int, named: str, shape: list[int]) -> Slot:
    """Return a slot, given the number of bytes before the first one.

    Raises:
        ValueError: the place and the shape do not fit each other.
        LookupError: the dtype is not known here.
    """
    dtype = _DTYPES[named]
    if (
        any(type(length) is not int or length < 1 for length in shape)
        or prod(shape) * dtype.itemsize != size
        or (header + first) % dtype.itemsize
    ):
        raise ValueError(named)
    return Slot(dtype, tuple(shape), first, size)


def _view(data: memoryview, first: int, slot: Slot) -> Tensor:
    return torch.frombuffer(data, dtype=slot.dtype, count=slot.size // slot.dtype.itemsize, offset=first).view(slot.shape)
