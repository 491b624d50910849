"""Quantizers that multiply in 8 bits: the activations of each token are rounded as the rows of the matrix are, and torch's own 8-bit product
multiplies the two. The backward pass multiplies gradients by the restored matrix.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ltxplugins.quantizers.rows import FP8, Int8, Rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Linear

FEWEST = 32
"""The smallest number of tokens for which GPUs multiply 8-bit integers; fewer tokens are padded with zeros."""


@attrs.frozen
class Multiplied(Rows):
    """A base class for quantizers that multiply in 8 bits."""

    low_precision = True

    @property
    def multiple(self) -> int:
        """The number that must divide both sides of a matrix."""
        raise NotImplementedError

    def product(self, x: Tensor, of_x: Tensor, weight: Tensor, of_weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Multiply 8-bit tokens `[T, in]` with factors `[T, 1]` by an 8-bit matrix `[out, in]` with factors `[out, 1]`, and return the
        product `[T, out]` in `dtype`.
        """
        raise NotImplementedError

    @property
    def multiply(self) -> Callable[[Tensor, Tensor, Mapping[str, Tensor], Tensor | None], Tensor]:
        return functools.partial(self.multiplied, _function())

    def multiplied(self, function: Any, inputs: Tensor, weight: Tensor, factors: Mapping[str, Tensor], bias: Tensor | None) -> Tensor:
        """Round the tokens `[..., in]`, and multiply them by the stored matrix, as an autograd function.

        Source: docs/explanation/arithmetic.md#rows-in-8-bits
        """
        product: Tensor = function.apply(inputs, weight, factors["scale"], self)
        return product if bias is None else product + bias.to(product.dtype)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        if any(side % self.multiple for side in shape):
            raise ValueError(f"both sides must be multiples of {self.multiple}")
        return super().weight_bytes(shape)


@attrs.frozen
class Int8Matmul(Multiplied, Int8):
    """8-bit integers as in `int8`, which are also multiplied in 8 bits: activations are rounded too, with a scale for each token."""

    error = 0.012

    @property
    def multiple(self) -> int:
        return 8

    def product(self, x: Tensor, of_x: Tensor, weight: Tensor, of_weight: Tensor, dtype: torch.dtype) -> Tensor:
        import torch
        import torch.nn.functional as F

        count = x.shape[0]
        sums = torch._int_mm(F.pad(x, (0, 0, 0, max(0, FEWEST - count))), weight.t())[:count]
        return (sums * of_x).mul_(of_weight.t()).to(dtype)


@attrs.frozen
class FP8Matmul(Multiplied, FP8):
    """8-bit floating-point numbers as in `fp8`, which are also multiplied in 8 bits: activations are rounded too, with a scale for each
    token. It needs a GPU of the generation Ada, Hopper or later.
    """

    error = 0.035

    @property
    def multiple(self) -> int:
        return 16

    def store(self, linear: Linear) -> Linear:
        import torch

        device = linear.weight.device
        if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 9):
            raise ValueError("products of 8-bit floating-point numbers need a GPU of the generation Ada, Hopper or later")
        return super().store(linear)

    def product(self, x: Tensor, of_x: Tensor, weight: Tensor, of_weight: Tensor, dtype: torch.dtype) -> Tensor:
        import torch

        computed = torch.bfloat16 if x.device.type == "cuda" else dtype  # with a factor for each row, GPUs have only this product
        return torch._scaled_mm(x, weight.t(), of_x, of_weight.t(), out_dtype=computed).to(dtype)


@functools.cache
def _function() -> Any:
    """Return the autograd function. It is made when it is first used, because plugins import torch only then."""
    import torch

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, inputs: Tensor, weight: Tensor, scale: Tensor, quantizer: Multiplied) -> Tensor:
            ctx.save_for_backward(weight, scale)
            ctx.quantizer = quantizer
            rounded, of_tokens = quantizer.rounded(inputs.flatten(0, -2))
            product = quantizer.product(rounded, of_tokens, weight.view(quantizer.number_format), scale, inputs.dtype)
            return product.unflatten(0, inputs.shape[:-1])

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
            (gradient,), (weight, scale) = gradients, ctx.saved_tensors
            return gradient @ ctx.quantizer.restored(weight, {"scale": scale}, tuple(weight.shape), gradient.dtype), None, None, None

    return Product
