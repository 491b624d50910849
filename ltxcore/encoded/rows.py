"""Samples that are read straight into the rows of a micro-batch. Reading each into memory of its own and joining the tensors would copy every
byte once more.

`in_rows` reads the samples of one role. The tensors that it returns are views of memory that the samples share, one after the other, so that
`joined_rows` makes one tensor of them without copying.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from math import prod
from pathlib import Path

import attrs
import numpy
import torch
from torch import Tensor

from ltxcore.encoded.buffers import Slot, plain_slots
from ltxcore.encoded.sample_names import FOREIGN
from ltxcore.encoded.shards import place_of_file
from ltxcore.encoded.store import LARGEST, listed, parsed, read_listed, sample_of
from ltxcore.encoded.stored import Stored
from ltxcore.errors import DataError
from ltxcore.protocols import Entry, Source

HEAD = 2**13
"""The number of bytes that are read to find a file's header. A file with a longer header is read whole."""

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""The dtype and the shape of each tensor of a sample."""


@attrs.frozen
class Wanted:
    """A sample to read.

    Attributes:
        path: the sample's file.
        name: the sample's name.
        entry: the sample's entry.
        check: whether all bytes are compared with the entry's checksum (`store.read_listed`).
    """

    path: Path
    name: str
    entry: Entry
    check: bool = False


@attrs.frozen(eq=False)
class _Opened:
    """A sample's file whose header was read.

    Attributes:
        file: the open file, or the shard that holds the sample's file.
        begin: the number of bytes before the tensors.
        size: the size of the sample's file in bytes.
        told: the metadata in the header.
        slots: the tensors that the header describes.
    """

    file: io.FileIO
    begin: int
    size: int
    told: Mapping[str, str]
    slots: Mapping[str, Slot]

    @property
    def layout(self) -> Layout:
        return {name: (slot.dtype, slot.shape) for name, slot in self.slots.items()}

    def read_into(self, parts: Mapping[str, memoryview]) -> bool:
        """Read the tensors; return whether the file has all their bytes."""
        for name, data in parts.items():
            self.file.seek(self.begin + self.slots[name].begin)
            read = 0
            while read < len(data) and (some := self.file.readinto(data[read:])):  # a system may give a part at a time
                read += some
            if read < len(data):
                return False
        return True


def in_rows(source: Source, samples: Sequence[Wanted]) -> list[Stored | DataError]:
    """Read samples of one role, as `store.read_listed` does, into memory that they share; or return what is wrong with each. Samples that
    cannot be joined lie in memory of their own.
    """
    if len(samples) < 2:
        return [_whole(source, each) for each in samples]
    with ExitStack() as stack:
        opened = [None if each.check else _open(each.path, stack) for each in samples]
        whole = [None if file is not None else _whole(source, each) for file, each in zip(opened, samples, strict=True)]
        layouts = [_layout(file or own) for file, own in zip(opened, whole, strict=True)]
        rows = None if any(layout is None for layout in layouts) else _Rows.of([layout for layout in layouts if layout is not None], source)
        if rows is None or not any(opened):
            return [_whole(source, each) if own is None else own for own, each in zip(whole, samples, strict=True)]
        return [
            rows.filled(index, source, each, file, own) for index, (each, file, own) in enumerate(zip(samples, opened, whole, strict=True))
        ]


def joined_rows(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors joined along their first axis: without copying if they follow each other in the same memory, as those that `in_rows`
    read do.
    """
    first, place = tensors[0], tensors[0].storage_offset()
    for tensor in tensors:
        if (
            tensor.storage_offset() != place
            or tensor.dtype != first.dtype
            or tensor.shape[1:] != first.shape[1:]
            or not tensor.is_contiguous()
            or tensor.untyped_storage()._cdata != first.untyped_storage()._cdata
        ):
            return torch.cat([*tensors])
        place += tensor.numel()
    row = first.shape[1:]
    strides = [prod(row[axis:]) for axis in range(len(row) + 1)]
    return first.as_strided((sum(len(each) for each in tensors), *row), strides)


def _whole(source: Source, sample: Wanted) -> Stored | DataError:
    try:
        return read_listed(sample.path, sample.name, source, sample.entry, sample.check)
    except DataError as error:
        return error


def _open(path: Path, stack: ExitStack) -> _Opened | None:
    """Open a sample's file; return None for a file that has to be read whole, by functions that say what is wrong with it."""
    if path.suffix == FOREIGN:
        return None
    with suppress(OSError):
        begin, size = 0, -1
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path's own method takes several times as long, which counts for small files
            if not stat.S_ISREG(status.st_mode):
                return None
            file, size = stack.enter_context(io.FileIO(path)), status.st_size
        except FileNotFoundError:
            place = place_of_file(path)
            if place is None or place.fetch is not None:
                return None
            file, begin, size = stack.enter_context(io.FileIO(place.shard)), place.begin, place.bytes
            file.seek(begin)
        head = memoryview(bytearray(min(size, HEAD)))
        if size > LARGEST or file.readinto(head) != len(head):
            return None
        found = plain_slots(head, size)
        return None if found is None else _Opened(file, begin + 8 + struct.unpack_from("<Q", head)[0], size, *found)
    return None


def _layout(sample: _Opened | Stored | DataError | None) -> Layout | None:
    if isinstance(sample, _Opened):
        return sample.layout
    if isinstance(sample, Stored):
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in sample.tensors.items()}
    return None


@attrs.frozen(eq=False)
class _Rows:
    """Memory for the tensors of several samples.

    Attributes:
        data: the memory of each tensor of all samples.
        tensors: the same as tensors, whose first axis has all rows.
        ends: for each tensor, the number of rows of the samples before each sample, and of all.
        is_text: whether the rows of a sample are the positions of its text; otherwise, each sample is a row.
    """

    data: Mapping[str, memoryview]
    tensors: Mapping[str, Tensor]
    ends: Mapping[str, Sequence[int]]
    is_text: bool

    @classmethod
    def of(cls, layouts: Sequence[Layout], source: Source) -> _Rows | None:
        """Make room for samples; None if they cannot be joined."""
        data, tensors, ends = dict[str, memoryview](), dict[str, Tensor](), dict[str, list[int]]()
        is_text = source.kind == "text"
        for name, (dtype, shape) in layouts[0].items():
            row = shape[1:] if is_text else shape
            ends[name] = [0]
            for layout in layouts:
                own = layout.get(name, (None, ()))
                if (
                    layout.keys() != layouts[0].keys()
                    or own[0] != dtype
                    or own[1][len(shape) - len(row) :] != row
                    or len(own[1]) != len(shape)
                ):
                    return None
                ends[name].append(ends[name][-1] + (own[1][0] if is_text else 1))
            data[name] = numpy.empty(ends[name][-1] * prod(row) * dtype.itemsize, numpy.uint8).data
            tensors[name] = torch.frombuffer(data[name], dtype=dtype).view(ends[name][-1], *row)
        return cls(data, tensors, ends, is_text)

    def filled(
        self, index: int, source: Source, sample: Wanted, file: _Opened | None, own: Stored | DataError | None
    ) -> Stored | DataError:
        """Put a sample into its rows, and return it with its tensors there; without an open file, it was read to memory of its own."""
        spans = {name: (ends[index], ends[index + 1]) for name, ends in self.ends.items()}
        parts = {name: self.tensors[name][begin:end] if self.is_text else self.tensors[name][begin] for name, (begin, end) in spans.items()}
        if file is not None:
            sizes = {name: len(self.data[name]) // self.ends[name][-1] for name in spans}
            data = {name: self.data[name][begin * sizes[name] : end * sizes[name]] for name, (begin, end) in spans.items()}
            try:
                if file.read_into(data):
                    found = parsed(sample.path, lambda: sample_of(file.told, parts))
                    return listed(sample.path, found, file.size, source, sample.entry)
            except DataError as error:
                return error
            except OSError:  # which is met again, and reported, when the file is read whole
                pass
            return _whole(source, sample)
        if isinstance(own, Stored):
            for name, part in parts.items():
                part.copy_(own.tensors[name])
            return attrs.evolve(own, tensors=parts)
        return _whole(source, sample) if own is None else own
