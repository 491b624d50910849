"""GGUF files are read tensor by tensor, as the same numbers in bf16, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import save_file

from helpers.gguf_made import plain, q4_k, q8_0, write_gguf
from helpers.golden_models import BOTH, PREFIX, golden_config, golden_weights, random_input
from ltxcore.errors import CheckpointError
from ltxcore.headers import fingerprint, read_file
from ltxcore.models.inventory import Inventory, inventory
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.safetensors_files import open_tensors, read_header

Made = tuple[str, tuple[int, ...], bytes]


def model(folder: Path) -> tuple[Path, Path]:
    """The golden model of 2.3 with packed matrices, without a configuration; and the same numbers in bf16, with it."""
    packed: dict[str, Made] = {}
    meant = {}
    for number, (name, tensor) in enumerate(sorted(golden_weights("B").items())):
        shape = tuple(tensor.shape)
        if name.endswith("ff.net.2.weight") and shape[1] % 256 == 0:
            content, values = q4_k(shape, number)
            packed[name] = ("Q4_K", shape, content)
        elif ".attn" in name and tensor.ndim == 2 and "gate" not in name:
            content, values = q8_0(tensor)
            packed[name] = ("Q8_0", shape, content)
        else:
            kind = "F32" if tensor.ndim == 1 else "BF16"
            values, packed[name] = tensor.float(), (kind, shape, plain(tensor, kind))
        meant[name] = values.to(torch.bfloat16)
    assert {"Q4_K", "Q8_0", "F32", "BF16"} == {kind for kind, _, _ in packed.values()}
    same = folder / "same.safetensors"
    save_file(
        {PREFIX + name: tensor for name, tensor in meant.items()},
        same,
        metadata={"config": json.dumps({"transformer": golden_config("B")})},
    )
    return write_gguf(folder / "model.gguf", packed), same


def test_a_gguf_file_is_the_bf16_model_that_its_numbers_give(tmp_path: Path) -> None:
    places = model(tmp_path)
    first, second = (load_backbone(str(path), BOTH, dtype=torch.float32) for path in places)
    assert describe(str(places[0])).generation == "2.3"
    for name, parameter in second.named_parameters():
        assert torch.equal(first.get_parameter(name), parameter), name
    given = {name: random_input(name, 5, width=width) for name, width in (("video", 64), ("audio", 32))}
    losses = []
    for backbone in (first, second):
        inputs = {name: attrs.evolve(each, tokens=each.tokens.clone().requires_grad_()) for name, each in given.items()}
        loss = sum(found.square().mean() for found in backbone(inputs["video"], inputs["audio"]).values())
        assert isinstance(loss, torch.Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append((loss.detach(), inputs["video"].tokens.grad, inputs["audio"].tokens.grad))
    for one, other in zip(*losses, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_packed_tensors_are_what_their_blocks_stand_for(tmp_path: Path) -> None:
    (first, eight), (second, four) = q8_0(torch.randn(3, 64)), q4_k((2, 512), 1)
    path = write_gguf(tmp_path / "a.gguf", {"x": ("Q8_0", (3, 64), first), "y": ("Q4_K", (2, 512), second)}, config="{}")
    header = read_header(path)
    with open_tensors(header) as file:
        assert torch.equal(file.get_tensor("x"), eight.to(torch.bfloat16))
        torch.testing.assert_close(file.get_tensor("y"), four.to(torch.bfloat16), rtol=2**-8, atol=1e-6)
    assert header.metadata["config"] == "{}"
    assert len(fingerprint(path)) == 32


def test_plain_numbers_in_64_bits_are_read(tmp_path: Path) -> None:
    values = torch.randn(3, 5, dtype=torch.float64)
    path = write_gguf(tmp_path / "a.gguf", {"x": ("F64", (3, 5), plain(values, "F64"))})
    with open_tensors(read_header(path)) as file:
        assert torch.equal(file.get_tensor("x"), values)


def test_the_inventory_names_the_types_that_are_in_the_file(tmp_path: Path) -> None:
    found = inventory(model(tmp_path)[0])
    assert isinstance(found, Inventory)
    assert (found.generation, found.num_layers) == ("2.3", 2)
    assert {"Q4_K", "Q8_0"} <= {dtype for part in found.parts for dtype in part.dtypes}


def test_a_file_cut_short_anywhere_is_never_read_partly(tmp_path: Path) -> None:
    path = model(tmp_path)[0]
    whole = path.read_bytes()
    for share in range(1, 16):
        path.write_bytes(whole[: len(whole) * share // 16])
        with pytest.raises(CheckpointError, match="is a GGUF file that is damaged or cut short"):
            read_file(path)


def test_types_that_are_not_read_are_named_with_those_that_are(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"x": ("IQ4_NL", (1, 32), bytes(18))})
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    assert str(error.value).startswith(f"{path}: the tensor x has dtype IQ4_NL, which is not supported\n    Use a file of Q2_K, Q3_K, Q4_0")
