"""Files are read whole into memory of their own, and what is plain in them is taken without copying."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.encoded_sets import values
from ltxcore.encoded.buffers import plain_tensors, read_buffer

FILE = {"b": values(3, 5, dtype=torch.bfloat16), "a": values(2, 2), "c": values(4, dtype=torch.float64)}


def _file(header: str, size: int) -> memoryview:
    told = header.encode() + b" " * (-len(header.encode()) % 8)
    return memoryview(bytearray(struct.pack("<Q", len(told)) + told + bytes(size)))


def test_a_file_is_read_whole_and_a_larger_one_than_wanted_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"whole")
    data = read_buffer(path, 5)
    assert isinstance(data, memoryview)
    assert (bytes(data), data.readonly) == (b"whole", False)
    assert read_buffer(path, 4) == 5
    with pytest.raises(IsADirectoryError):
        read_buffer(tmp_path, 10**6)


def test_tensors_are_what_the_library_reads_and_lie_in_the_memory_of_the_file(tmp_path: Path) -> None:
    safetensors.torch.save_file(FILE, tmp_path / "a.safetensors", metadata={"rate": "24.0"})
    data = read_buffer(tmp_path / "a.safetensors", 10**6)
    assert isinstance(data, memoryview)
    found = plain_tensors(data)
    assert found is not None
    told, tensors = found
    assert told == {"rate": "24.0"}
    assert tensors.keys() == FILE.keys()
    begin = torch.frombuffer(data, dtype=torch.uint8).data_ptr()
    for name, tensor in tensors.items():
        assert tensor.dtype == FILE[name].dtype
        assert torch.equal(tensor, FILE[name])
        assert begin < tensor.data_ptr() < begin + len(data)


SLOT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**SLOT, "dtype": "F8_E4M3"}},
        {"a": {**SLOT, "dtype": "I32"}},
        {"a": {**SLOT, "shape": [3]}},
        {"a": {**SLOT, "shape": [-1, -2]}},
        {"a": {**SLOT, "shape": [True, 2]}},
        {"a": {**SLOT, "shape": [0], "data_offsets": [0, 0]}, "b": SLOT},
        {"a": {**SLOT, "shape": [1], "data_offsets": [0, 4]}},
        {"a": {**SLOT, "shape": [1], "data_offsets": [4, 8]}},
        {"a": SLOT, "b": SLOT},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {**SLOT, "data_offsets": [0, 8, 8]}},
        {"a": {**SLOT, "data_offsets": ["0", "8"]}},
        {"a": SLOT, "__metadata__": {"rate": 24}},
        {"a": SLOT, "__metadata__": [1]},
        {"a": 1},
        [],
    ],
)
def test_what_is_not_plain_is_left_to_the_library(header: object) -> None:
    assert plain_tensors(_file(json.dumps({"a": SLOT}), 8)) is not None
    assert plain_tensors(_file(json.dumps(header), 8)) is None


@pytest.mark.parametrize(
    "data", [b"", b"123", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 3) + b" {}", struct.pack("<Q", 2) + b"{\xff"]
)
def test_what_has_no_header_is_left_to_the_library(data: bytes) -> None:
    assert plain_tensors(memoryview(bytearray(data))) is None
