"""The conformance kit says of every wrong adapter what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import Linear, Module, Parameter

from ltxcore.adapters import AdapterSettings, AdapterShape
from ltxcore.testing import check_adapter


class Pair(nn.Module):
    """Right: a linear module, and a product of two matrices beside it."""

    def __init__(self, linear: Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.linear, self.scale = linear, scale
        self.down, self.up = Parameter(torch.empty(rank, linear.in_features)), Parameter(torch.empty(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * x @ self.down.T @ self.up.T


@attrs.frozen
class Right:
    """Right, in a way that each class below spoils in one point."""

    file_names: ClassVar[Mapping[str, str]] = {"down": "down", "up": "up"}
    takes_dropout: ClassVar[bool] = False

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        return Pair(linear, settings.rank, 1.0 if settings.alpha is None else settings.alpha / settings.rank)

    def tensors(self, layer: Any) -> dict[str, Parameter]:
        return {"down": layer.down, "up": layer.up}

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> dict[str, tuple[int, ...]]:
        return {"down": (settings.rank, inputs), "up": (outputs, settings.rank)}

    def start(self, layer: Any, linear: Linear, generator: Generator) -> None:
        layer.down.copy_(torch.randn(layer.down.shape, generator=generator))
        layer.up.zero_()

    def weight(self, layer: Any, base: Tensor) -> Tensor:
        return base + layer.scale * layer.up @ layer.down

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        down, up = shapes.get("down", ()), shapes.get("up", ())
        return AdapterShape(up[0], down[1], down[0]) if down and up else None

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> dict[str, Tensor]:
        return {**tensors, "up": tensors["up"] * (1.0 if settings.alpha is None else settings.alpha / settings.rank)}

    def fill(self, layer: Any, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        layer.down.copy_(tensors["down"])
        layer.up.copy_(tensors["up"] / layer.scale)


@attrs.frozen
class NoEndings(Right):
    file_names: ClassVar[Mapping[str, str]] = {}


@attrs.frozen
class EndsInWeight(Right):
    file_names: ClassVar[Mapping[str, str]] = {"weight": "down", "up": "up"}


@attrs.frozen
class Untitled(Right):
    title = 1


@attrs.frozen
class Untyped(Right):
    size = attrs.field(default=1)


@attrs.frozen
class OtherShapes(Right):
    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> dict[str, tuple[int, ...]]:
        return {"down": (settings.rank, outputs), "up": (inputs, settings.rank)}


@attrs.frozen
class Hides(Right):
    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        layer = super().wrap(linear, settings)
        layer.more = Parameter(torch.zeros(1))  # type: ignore[assignment]
        return layer


@attrs.frozen
class Forgets(Right):
    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        return Pair(Linear(linear.in_features, linear.out_features), settings.rank, 1.0)


@attrs.frozen
class StartsElsewhere(Right):
    def start(self, layer: Any, linear: Linear, generator: Generator) -> None:
        super().start(layer, linear, generator)
        layer.up.fill_(0.1)


@attrs.frozen
class NeverLearns(Right):
    def start(self, layer: Any, linear: Linear, generator: Generator) -> None:
        layer.down.zero_()
        layer.up.zero_()


@attrs.frozen
class DrawsGlobally(Right):
    def start(self, layer: Any, linear: Linear, generator: Generator) -> None:
        layer.down.copy_(torch.randn(layer.down.shape))
        layer.up.zero_()


@attrs.frozen
class SaysAnotherWeight(Right):
    def weight(self, layer: Any, base: Tensor) -> Tensor:
        return base - layer.scale * layer.up @ layer.down


class Cut(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * x @ self.down.detach().T @ self.up.T


@attrs.frozen
class CutsAGradient(Right):
    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        return Cut(linear, settings.rank, 1.0 if settings.alpha is None else settings.alpha / settings.rank)


class OfItsWeight(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.linear.weight.float() + self.scale * self.up @ self.down).T + self.linear.bias


@attrs.frozen
class ReadsTheWeight(Right):
    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        return OfItsWeight(linear, settings.rank, 1.0 if settings.alpha is None else settings.alpha / settings.rank)


@attrs.frozen
class HasNoDropout(Right):
    takes_dropout: ClassVar[bool] = True


@attrs.frozen
class WritesNoAlpha(Right):
    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> dict[str, Tensor]:
        return dict(tensors)


@attrs.frozen
class FillsOtherwise(Right):
    def fill(self, layer: Any, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        layer.down.copy_(tensors["down"])
        layer.up.copy_(tensors["up"])


@attrs.frozen
class HidesNumbers(Right):
    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        layer = super().wrap(linear, settings)
        layer.scale = torch.ones(1)  # type: ignore[assignment]
        return layer

    def start(self, layer: Any, linear: Linear, generator: Generator) -> None:
        super().start(layer, linear, generator)
        layer.scale = torch.rand(1, generator=generator) + 2

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> dict[str, Tensor]:
        return dict(tensors)

    def fill(self, layer: Any, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        layer.down.copy_(tensors["down"])
        layer.up.copy_(tensors["up"])


@attrs.frozen
class TakesHalves(Right):
    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        return AdapterShape(None, shapes["down"][1], shapes["down"][0]) if "down" in shapes else None


def test_a_right_adapter_is_told_nothing() -> None:
    check_adapter(Right)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (NoEndings, "has file_names {}; they must be a mapping"),
        (EndsInWeight, 'has the ending "weight" in file_names, which the weights of a model have'),
        (Untitled, "has title 1; it must be text"),
        (Untyped, 'has a field "size" without a type'),
        (OtherShapes, "states the shapes {'down': (3, 512)"),
        (Hides, "trains 1 parameters that tensors() does not name"),
        (Forgets, "by a module that does not contain the linear module"),
        (StartsElsewhere, "changes what a module computes before it has learned anything; seen on plain weights, int8 weights"),
        (NeverLearns, "starts where no gradient reaches any of its tensors"),
        (DrawsGlobally, "starts differently with the same seed"),
        (SaysAnotherWeight, "does not multiply by the matrix that weight() returns"),
        (CutsAGradient, "has a tensor down that no gradient reaches"),
        (ReadsTheWeight, "changes what a module computes before it has learned anything; seen on int8 weights"),
        (HasNoDropout, "does not drop anything in training"),
        (
            WritesNoAlpha,
            "computes something else after it is written to a file and read again: "
            "at transformer_blocks.0.audio_attn1.to_k (rank 4, alpha 8.0), an output differs by ",
        ),
        (HidesNumbers, "to_file() must fold alpha in, and numbers that are not in the file must follow from the keys of the class"),
        (
            FillsOtherwise,
            "starts from a file with values that differ from those written to it: "
            "at transformer_blocks.0.audio_attn1.to_k (rank 4, alpha 8.0), an output differs by ",
        ),
        (FillsOtherwise, "% of the largest; if to_file() folds alpha in, a method fill() must take it out again"),
        (TakesHalves, "measures a file without up as if the file were complete"),
    ],
)
def test_a_wrong_adapter_is_told_what_is_wrong(wrong: type, told: str) -> None:
    with pytest.raises(AssertionError) as error:
        check_adapter(wrong)
    assert str(error.value).startswith(f"{wrong.__name__} breaks the protocol of adapters:")
    assert told in str(error.value)
