"""The template of `ltx plugins new` for adapters: an adapter that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

ADAPTER = Beginning(
    does="each input of a linear module is scaled by a factor of its own",
    made="scales each input of a linear module",
    use="""\
[lora]
type = "$name"
params = { reach = 2.0 }""",
    method="wrap",
    change="adapt a module as you want, and change the methods after it accordingly",
    module='''\
"""Each input of a linear module, times a factor of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from ltxcore.api import hookimpl
from ltxcore.api.adapters import AdapterSettings, AdapterShape

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter


@attrs.frozen
class $cls:
    """Scale each input of a module, by 1 + reach times a number that starts at 0."""

    # In a file, the name of a tensor is its module's path and one of these endings.
    file_names: ClassVar[Mapping[str, str]] = {"scale": "scale"}
    takes_dropout = False

    reach: float = attrs.field(
        default=1.0,
        validator=attrs.validators.gt(0),
        metadata={"help": "what the learned numbers are multiplied by"},
    )

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        """Import heavy packages here, so that no other command waits for them."""
        import torch
        from torch import nn

        reach = self.reach

        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = linear
                self.scale = nn.Parameter(torch.zeros(linear.in_features, device=linear.weight.device))

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.linear((x * (1 + reach * self.scale)).to(x.dtype))
                return out

        return Scaled()

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return {"scale": found.scale}

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        return {"scale": (inputs,)}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        self.tensors(layer)["scale"].zero_()

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        return base * (1 + self.reach * self.tensors(layer)["scale"])

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        return AdapterShape(outputs=None, inputs=shapes["scale"][0]) if "scale" in shapes else None


@hookimpl
def ltx_adapters() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and does what it should."""

import pytest
import torch
from ltxcore.api.adapters import AdapterSettings
from ltxcore.testing import check_adapter, check_imports_lightly
from torch.nn import Linear

from $module import $cls


@pytest.mark.parametrize("reach", [1.0, 3.0])
def test_it_keeps_to_the_protocol(reach: float) -> None:
    check_adapter($cls(reach))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_each_input_is_scaled() -> None:
    adapter, linear = $cls(reach=2.0), Linear(2, 1, bias=False)
    layer = adapter.wrap(linear, AdapterSettings(rank=1, alpha=None, dropout=0.0))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 10.0]]))
        adapter.tensors(layer)["scale"].copy_(torch.tensor([0.5, 0.0]))
        assert layer(torch.ones(1, 2)).item() == pytest.approx(2.0 + 10.0)
''',
)
