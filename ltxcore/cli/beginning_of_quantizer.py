"""The template of `ltx plugins new --kind quantizer`."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

QUANTIZER = Beginning(
    does="frozen weights are stored as 8-bit integers, with a scale for each block of a row",
    made="stores 8-bit integers with a scale for each block of a row",
    use="""\
[acceleration]
quantization = "$name"
quantization_params = { block = 64 }""",
    method="store",
    change="store a matrix as you want",
    module='''\
"""8-bit integers, with a scale for each block of a row."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Linear

LARGEST, TINY = 127, 1e-30


@attrs.frozen
class $cls:
    """8-bit integers, with a scale for each block of a row."""

    error = 0.01  # of a restored matrix: the norm of the difference, divided by the norm

    block: int = attrs.field(
        default=64,
        validator=attrs.validators.ge(8),
        metadata={"help": "how many weights share a scale", "unit": "weights"},
    )

    def store(self, linear: Linear) -> Linear:
        """Import heavy packages here, so that no other command waits for them."""
        import torch
        from ltxcore.api.quantizers import quantized_linear

        blocks = linear.weight.detach().float().unflatten(1, (-1, self.block))
        scale = blocks.abs().amax(dim=2, keepdim=True).clamp_min(TINY) / LARGEST
        stored = (blocks / scale).round().to(torch.int8)
        return quantized_linear(linear, stored, {"scale": scale}, restored)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        """Return one byte for each weight, and four for the scale of each block."""
        if shape[1] % self.block:
            raise ValueError(f"{shape[1]} columns are no multiple of a block of {self.block}")
        return prod(shape) + 4 * prod(shape) // self.block


def restored(weight: Tensor, factors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Compute the matrix from these arguments alone: block swap puts copies in their place."""
    return (weight.float() * factors["scale"]).reshape(shape).to(dtype)


@hookimpl
def ltx_quantizers() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and stores what it should."""

import pytest
import torch
from ltxcore.testing import check_imports_lightly, check_quantizer
from torch import nn

from $module import $cls


@pytest.mark.parametrize("block", [32, 128])
def test_it_keeps_to_the_protocol(block: int) -> None:
    check_quantizer($cls(block))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_each_block_has_a_scale_of_its_own() -> None:
    linear = nn.Linear(16, 1)
    linear.weight.data = torch.tensor([[127.0] * 8 + [1.27] * 8])
    layer = $cls(block=8).store(linear)
    assert layer.weight.unique().tolist() == [127]
    assert layer.scale.flatten().tolist() == pytest.approx([1.0, 0.01])
''',
)
