"""The quantizers that come with ltx: each keeps to the protocol, stores what its format says, and older names mean what they meant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.quantizers import quantizer
from ltxcore.registry import load
from ltxcore.testing import check_quantizer

OURS = [name for name, named in load().of_kind("quantizer").items() if named.origin.distribution == "ltx"]


@pytest.mark.parametrize("name", OURS)
def test_each_keeps_to_the_protocol(name: str) -> None:
    check_quantizer(quantizer(name))


def test_whole_numbers_are_those_of_rounding_each_row_to_its_largest() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.251, 0.0], [0.0, 0.0, 0.0, 0.0], [1e-3, 127e-3, 63.4e-3, -127e-3]])
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = weight
    small: Any = quantizer("int8").store(layer)
    assert small.weight.tolist() == [[127, -64, 32, 0], [0, 0, 0, 0], [1, 127, 63, -127]]
    torch.testing.assert_close(small.dequantize()[2], torch.tensor([1e-3, 127e-3, 63e-3, -127e-3]))
    assert torch.equal(small(torch.ones(1, 4))[0, 1], torch.tensor(0.0))


@pytest.mark.parametrize(("name", "stored"), [("int8-matmul", "int8"), ("fp8-matmul", "fp8")])
@pytest.mark.parametrize("tokens", [1, 40])
def test_products_in_8_bits_are_those_of_both_sides_rounded(name: str, stored: str, tokens: int) -> None:
    linear = nn.Linear(64, 32)
    x = torch.linspace(-3, 2, tokens * 64).view(tokens, 64)
    x[0, 5] = 0.0
    layer: Any = quantizer(name).store(linear)
    weight, rounded = (restored(quantizer(stored), each) for each in (linear.weight.detach(), x))
    assert torch.equal(layer.dequantize(), weight)
    torch.testing.assert_close(layer(x), rounded @ weight.T + linear.bias, rtol=1e-5, atol=1e-5)
    assert not torch.equal(layer(x), x @ weight.T + linear.bias)


def restored(quantizer: Any, rows: Tensor) -> Tensor:
    """Rows, rounded as a quantizer rounds a matrix."""
    linear = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
    linear.weight.data = rows
    whole: Tensor = quantizer.store(linear).dequantize()
    return whole


def test_a_matrix_with_sides_that_8_bit_products_do_not_take_is_refused() -> None:
    for name, shape in (("int8-matmul", (12, 64)), ("fp8-matmul", (64, 24))):
        with pytest.raises(ValueError, match="both sides must be multiples of"):
            quantizer(name).weight_bytes(shape)


@pytest.mark.parametrize("name", ["int8", "fp8", "fp8uz"])
def test_a_name_of_older_run_files_means_what_it_meant(name: str) -> None:
    layer = nn.Linear(64, 32)
    new, old = quantizer(name).store(layer), quantizer(f"{name}-quanto").store(layer)
    assert all(torch.equal(value, old.state_dict()[key]) for key, value in new.state_dict().items())
    assert f"{name}-quanto" not in load().offered("quantizer")


def test_eight_bits_take_a_byte_a_weight_and_four_bits_half_of_it() -> None:
    sizes = {name: load().get("quantizer", name).value().weight_bytes((4096, 2048)) for name in ("int8", "fp8", "fp8uz", "nf4")}
    assert sizes == {**dict.fromkeys(("int8", "fp8", "fp8uz"), 4096 * 2048 + 4 * 4096), "nf4": 4096 * 2048 // 2 + 4 * 4096 * 2048 // 64}
