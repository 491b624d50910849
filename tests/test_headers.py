"""Headers of model files: the scales of 8-bit weights, and files that are none."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ltxcore.errors import CheckpointError
from ltxcore.headers import fingerprint, read_file, read_json, tensors_fingerprint

EIGHT = torch.float8_e4m3fn
BF16 = "Use the bf16 file, and quantization under [acceleration]."
SAFETENSORS = "Use the bf16 or fp8 safetensors file of the model; quantization under [acceleration] makes it smaller in memory."


def written(folder: Path, **tensors: Tensor) -> Path:
    path = folder / "model.safetensors"
    save_file({name.replace("__", "."): tensor for name, tensor in tensors.items()}, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_file(path)
    return str(error.value)


def test_a_scale_belongs_to_its_weight_and_is_no_tensor_of_its_own(tmp_path: Path) -> None:
    path = written(
        tmp_path, a__weight=torch.ones(2, 3).to(EIGHT), a__weight_scale=torch.tensor(0.5), a__input_scale=torch.ones(()), b=torch.ones(1)
    )
    slots = read_file(path).slots
    assert slots.keys() == {"a.weight", "b"}
    assert slots["b"].scale is None
    name, place = slots["a.weight"].scale or ("", slots["b"])
    assert (name, place.dtype, place.shape) == ("a.weight_scale", "F32", ())


def test_weights_with_another_scale_are_other_weights(tmp_path: Path) -> None:
    found = []
    for scale in (0.5, 0.25):
        path = written(tmp_path, a__weight=torch.ones(2, 3).to(EIGHT), a__weight_scale=torch.tensor(scale))
        found.append(tensors_fingerprint(read_file(path).slots))
    assert found[0] != found[1]


def test_a_scale_for_every_few_numbers_is_refused_by_its_shape(tmp_path: Path) -> None:
    path = written(tmp_path, a__weight=torch.ones(2, 64).to(EIGHT), a__weight_scale=torch.ones(2, 4))
    what = "a.weight_scale has dtype F32 and shape [2, 4]; a weight must have one scale, or one scale per row"
    assert refusal(path) == f"{path}: {what}\n    {BF16}"


def test_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    told = torch.tensor(list(json.dumps({"format": "float8_blockwise"}).encode()), dtype=torch.uint8)
    path = written(tmp_path, a__weight=torch.ones(2, 4).to(EIGHT), a__weight_scale=torch.ones(()), a__comfy_quant=told)
    assert (
        refusal(path) == f"{path}: a.comfy_quant says that the weight is stored as 'float8_blockwise', which is not supported\n    {BF16}"
    )


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("model.ckpt", b"PK\3\4" + bytes(64), "a PyTorch file (.ckpt, .pt, .bin), which may run programs when it is opened"),
        ("model.pt", b"\x80\2ctorch" + bytes(64), "a PyTorch file (.ckpt, .pt, .bin), which may run programs when it is opened"),
        ("renamed.safetensors", b"PK\3\4" + bytes(64), "a PyTorch file (.ckpt, .pt, .bin), which may run programs when it is opened"),
    ],
)
def test_model_files_of_other_kinds_are_refused_for_what_they_are(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name) == f"{tmp_path / name}: is {what}, and only safetensors and GGUF files are read\n    {SAFETENSORS}"


def test_a_header_nested_without_end_is_damaged(tmp_path: Path) -> None:
    head = b"[" * 100_000
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    assert refusal(path) == f"{path}: is not a safetensors file, or its beginning is damaged\n    Download or copy the file again."


def test_an_index_that_names_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": path.name}}))
    assert refusal(path) == f"{path}: names index files instead of files of tensors: {path.name}\n    Download the complete folder again."


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        f'{{"x": {{"dtype": "F32", "shape": {DEEP}, "data_offsets": [0, 4]}}}}',
        '{"x": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}',
        '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}}',
        '{"x": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        '{"__metadata__": [1], "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        '{"__metadata__": {"a": 1}, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        '{"__metadata__": null}',
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    with pytest.raises(CheckpointError, match="is not a safetensors file, or its beginning is damaged"):
        read_file(path)


def test_a_table_that_is_nested_too_deep_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(DEEP)
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        read_json(tmp_path / "config.json")


def test_a_fingerprint_changes_with_a_weight_and_with_the_metadata(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("1", "2", "3"))
    big = {"a": torch.zeros(1000)}
    save_file(big, one, metadata={"m": "x"})
    save_file({"a": torch.ones(1000)}, two, metadata={"m": "x"})
    save_file(big, three, metadata={"m": "y"})
    found = {fingerprint(p) for p in (one, two, three)}
    assert len(found) == 3
    assert fingerprint(one) in found
    assert len(fingerprint(one)) == 32
