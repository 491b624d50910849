"""The conformance kit says of every wrong quantizer what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from ltxcore.api.quantizers import quantized_linear
from ltxcore.testing import check_quantizer

Factors = Mapping[str, Tensor]


@attrs.frozen
class Base:
    """Right: rows of 8-bit integers, by a rule that each class below spoils in one way."""

    error = 0.015
    ways: int = 127

    def parts(self, linear: nn.Linear) -> tuple[Tensor, dict[str, Tensor]]:
        whole = linear.weight.detach().float()
        scale = whole.abs().amax(dim=1, keepdim=True).clamp_min(1e-38) / self.ways
        return (whole / scale).round().to(torch.int8), {"scale": scale}

    def store(self, linear: nn.Linear) -> Any:
        weight, factors = self.parts(linear)
        return quantized_linear(linear, weight, factors, self.restored, self.multiply())

    def restored(self, weight: Tensor, factors: Factors, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return (weight.float() * factors["scale"]).to(dtype)

    def multiply(self) -> Callable[..., Tensor] | None:
        return None

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape) + 4 * shape[0]


class Product(torch.autograd.Function):
    """A product of rounded inputs with a stored matrix, which passes the gradient of the restored one times `slope`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.slope = slope
        step = x.float().abs().amax(dim=-1, keepdim=True) / 127
        return ((x.float() / step).round() @ weight.float().T * step * scale.T).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        weight, scale = ctx.saved_tensors
        return (ctx.slope * gradients[0].float() @ (weight.float() * scale)).to(gradients[0].dtype), None, None, None


@attrs.frozen
class Low(Base):
    """Right: it rounds its inputs too."""

    low_precision = True
    slope: float = 1.0

    def multiply(self) -> Callable[..., Tensor]:
        def product(inputs: Tensor, weight: Tensor, factors: Factors, bias: Tensor | None) -> Tensor:
            made: Tensor = Product.apply(inputs, weight, factors["scale"], self.slope)  # type: ignore[no-untyped-call]
            return made if bias is None else made + bias.to(made.dtype)

        return product


@attrs.frozen
class Wide(Base):
    """Right: it refuses what it cannot store, as long as the real models have nothing of the kind."""

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        if shape[1] < 256:
            raise ValueError("fewer than 256 columns")
        return super().weight_bytes(shape)


@attrs.frozen
class Fp8(Base):
    """Right: it keeps the 8-bit numbers of checkpoints, by a rule that classes below spoil."""

    error = 0.035
    keeps = "float8_e4m3fn"

    def parts(self, linear: nn.Linear) -> tuple[Tensor, dict[str, Tensor]]:
        whole = linear.weight.detach().float()
        scale = whole.abs().amax(dim=1, keepdim=True).clamp_min(1e-38) / 448
        return (whole / scale).to(torch.float8_e4m3fn).view(torch.int8), {"scale": scale}

    def restored(self, weight: Tensor, factors: Factors, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return (weight.view(torch.float8_e4m3fn).float() * factors["scale"]).to(dtype)

    def keep(self, linear: nn.Linear, weight: Tensor, scale: Tensor) -> Any:
        return quantized_linear(linear, weight.view(torch.int8), {"scale": scale}, self.restored)


@pytest.mark.parametrize("cls", [Base, Low, Wide, Fp8])
def test_one_that_is_right_passes(cls: type) -> None:
    check_quantizer(cls)


@attrs.frozen
class Coarse(Base):
    ways: int = 20


@attrs.frozen
class Silent(Base):
    error = None  # type: ignore[assignment]


@attrs.frozen
class Refuses(Base):
    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        if shape[1] == 16384:
            raise ValueError("too many columns")
        return super().weight_bytes(shape)


@attrs.frozen
class Forgets(Base):
    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape)


@attrs.frozen
class Scales(Base):
    def store(self, linear: nn.Linear) -> Any:
        linear.weight.data.mul_(2)
        return super().store(linear)


@attrs.frozen
class Plain(Base):
    def store(self, linear: nn.Linear) -> Any:
        return linear


@attrs.frozen
class Draws(Base):
    def parts(self, linear: nn.Linear) -> tuple[Tensor, dict[str, Tensor]]:
        weight, factors = super().parts(linear)
        return weight + torch.randint_like(weight, 2) * (weight < 127), factors


@attrs.frozen
class Padded(Base):
    """Stores something else where there are values."""

    def parts(self, linear: nn.Linear) -> tuple[Tensor, dict[str, Tensor]]:
        weight, factors = super().parts(linear)
        return weight, factors if weight.is_meta else {**factors, "nothing": torch.zeros(0)}


@attrs.frozen
class Beside(Base):
    """Keeps the matrix where block swap does not look for it."""

    def parts(self, linear: nn.Linear) -> tuple[Tensor, dict[str, Tensor]]:
        weight, factors = super().parts(linear)
        return weight.new_zeros(1), {**factors, "real": weight}

    def restored(self, weight: Tensor, factors: Factors, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return (factors["real"].float() * factors["scale"]).to(dtype)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return super().weight_bytes(shape) + 1


@attrs.frozen
class Hides(Base):
    """Keeps the factors where nothing moves them."""

    def store(self, linear: nn.Linear) -> Any:
        weight, factors = self.parts(linear)

        def restored(weight: Tensor, _: Factors, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
            return (weight.float() * factors["scale"]).to(dtype)

        return quantized_linear(linear, weight, {}, restored)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape)


@attrs.frozen
class Greedy(Base):
    def restored(self, weight: Tensor, factors: Factors, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return (weight.double() * factors["scale"].double()).to(dtype)


@attrs.frozen
class Float32(Base):
    def restored(self, weight: Tensor, factors: Factors, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return weight.float() * factors["scale"]


@attrs.frozen
class Divides(Base):
    def parts(self, linear: nn.Linear) -> tuple[Tensor, dict[str, Tensor]]:
        whole = linear.weight.detach().float()
        scale = whole.abs().amax(dim=1, keepdim=True) / self.ways
        return (whole / scale).round().to(torch.int8), {"scale": scale / scale * scale}


@attrs.frozen
class Steep(Low):
    slope: float = 2.0


@attrs.frozen
class Keeps(Base):
    """Multiplies by a matrix that autograd holds on to."""

    def multiply(self) -> Callable[..., Tensor]:
        def product(inputs: Tensor, weight: Tensor, factors: Factors, bias: Tensor | None) -> Tensor:
            whole = (weight.float() * factors["scale"]).to(inputs.dtype)
            return nn.functional.linear(inputs, whole, None if bias is None else bias.to(inputs.dtype))

        return product


@attrs.frozen
class NeedsWhatItDoesNot(Base):
    needs = {"safetensors": "pip install safetensors"}  # noqa: RUF012


@attrs.frozen
class NeedsWhatIsNotThere(Base):
    needs = {"fewer_bits": "pip install fewer-bits"}  # noqa: RUF012


@attrs.frozen
class Untyped(Base):
    block = attrs.field(default=4)


@attrs.frozen
class RoundsAgain(Fp8):
    def keep(self, linear: nn.Linear, weight: Tensor, scale: Tensor) -> Any:
        return super().keep(linear, weight, scale.to(torch.bfloat16).float())


@attrs.frozen
class KeepsNoBias(Fp8):
    def keep(self, linear: nn.Linear, weight: Tensor, scale: Tensor) -> Any:
        linear.bias = None
        return super().keep(linear, weight, scale)


@attrs.frozen
class KeepsInFull(Fp8):
    def keep(self, linear: nn.Linear, weight: Tensor, scale: Tensor) -> Any:
        whole = (weight.float() * scale).view(torch.int32)
        return quantized_linear(linear, whole, {}, lambda weight, factors, shape, dtype: weight.view(torch.float32).to(dtype))


@attrs.frozen
class KeepsWhat(Fp8):
    keeps = "int8"


@attrs.frozen
class KeepsNothing(Base):
    keeps = "float8_e5m2"


@attrs.frozen
class KeepsUnsaid(Fp8):
    keeps = ""


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Coarse, "restores a matrix with a relative error of 0.0"),
        (Silent, "has error None; it must be a number above 0"),
        (Refuses, "cannot store a matrix of 4096 x 16384, which the real models have: too many columns"),
        (Forgets, "says that a matrix of 4096 x 4096 takes 16777216 bytes, but it takes 16793600 on the meta device"),
        (Scales, "changes the weight of the layer that it is given"),
        (Plain, "stores a layer as Linear, which quantized_linear() did not make"),
        (Draws, "stores the same matrix differently the second time"),
        (Padded, "stores tensors of different shapes on the meta device: "),
        (Beside, "stores more in its factors than in its weight, but block swap moves only the weight"),
        (Hides, "restores a different matrix after its state dict was loaded into another layer: everything that it stores must be in the weight and the factors"),
        (Greedy, "takes 16.1 bytes per weight at once to restore a matrix to bfloat16, but states restoring_bytes = 8"),
        (Float32, "does not restore a matrix in the dtype that it is asked for"),
        (Divides, "does not restore a matrix of zeros"),
        (Steep, "passes a gradient to its inputs that differs from that of the restored matrix"),
        (Keeps, "keeps 65536 bytes of a matrix of 16384 weights for the backward pass; restore it again there"),
        (NeedsWhatItDoesNot, "stores a matrix without the package safetensors, which it says that it needs"),
        (NeedsWhatIsNotThere, "needs the package fewer_bits, which is not installed; install it with `pip install fewer-bits` to check the rest"),
        (RoundsAgain, "given the numbers of a checkpoint, restores other numbers"),
        (KeepsNoBias, "given the numbers of a checkpoint, does not keep the bias of the layer that it is given"),
        (KeepsInFull, "given the numbers of a checkpoint, says that a matrix of 128 x 128 takes 16896 bytes, but it takes 65536"),
        (KeepsWhat, "has keeps 'int8'; it must be \"float8_e4m3fn\" or \"float8_e5m2\""),
        (KeepsNothing, "has keeps, but no method keep()"),
        (KeepsUnsaid, "has a method keep(), but keeps does not say what for"),
        (Untyped, 'has a field "block" without a type, so a run file could have any value there'),
    ],
)  # fmt: skip
def test_one_that_is_wrong_is_told_what_is_wrong_with_it(cls: type, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_quantizer(cls)
    assert str(caught.value).startswith(f"{cls.__name__} breaks the protocol of quantizers:\n  - {said}")
