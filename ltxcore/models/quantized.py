"""The quantization of frozen weights, which lets a LoRA run of a large model take less memory.

Only the matrices of the blocks' attention and feed-forward, which make up nearly the whole model, are quantized; normalizations, tables,
gates, AdaLN and the input and output projections are left unchanged. A quantizer, a plugin of the hook `ltx_quantizers`, decides how a
matrix is stored. Unless the quantizer multiplies in low precision, a matrix is restored to the activations' dtype when it is multiplied,
and again in the backward pass, so that no copy of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.errors import ConfigError, PluginError
from ltxcore.quantizers import QuantizerType

Restore = Callable[[Tensor, Mapping[str, Tensor], tuple[int, int], torch.dtype], Tensor]
"""A function that restores a matrix `[out, in]` in the given dtype from its stored form and its factors."""

Multiply = Callable[[Tensor, Tensor, Mapping[str, Tensor], Tensor | None], Tensor]
"""A function that multiplies inputs by a stored matrix with its factors, and adds a bias if there is one."""


def is_quantizable(name: str) -> bool:
    """Return whether a parameter (in diffusers' names) is a matrix that can be quantized."""
    parts = name.split(".")
    if parts[0] != "transformer_blocks" or parts[-1] != "weight" or len(parts) < 5:
        return False
    is_attention = parts[3].startswith("to_") and parts[3] != "to_gate_logits"
    return is_attention or parts[2].removeprefix("audio_") == "ff"


def quantized(linear: nn.Linear, quantizer: QuantizerType, path: str, kept: tuple[Tensor, Tensor] | None = None) -> nn.Linear:
    """Return the layer that a quantizer makes from a linear layer, the module `path` of the transformer.

    Args:
        linear: the layer.
        quantizer: the quantizer.
        path: the layer's path, for messages.
        kept: the 8-bit numbers `[out, in]` and row factors `[out, 1]` that a checkpoint stores, if the quantizer keeps them as they are.

    Raises:
        ConfigError: a package that the quantizer needs is missing.
        PluginError: the quantizer cannot store this layer, or does not return a layer that stores it.
    """
    what = f"the quantizer {type(quantizer).__name__}"
    try:
        layer: object = quantizer.store(linear) if kept is None else quantizer.keep(linear, *kept)  # type: ignore[attr-defined]
    except ImportError as error:
        raise ConfigError(
            f"{what} needs a package that cannot be imported: {error}", remedy="Install the package, or use another quantizer."
        ) from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise PluginError(
            f"{what} cannot store {path}: {error}", remedy="Use another quantizer, or report this to the plugin's author."
        ) from error
    if not isinstance(layer, QuantizedLinear):
        raise PluginError(
            f"{what} stores a layer as {type(layer).__name__}, which quantized_linear() did not make",
            remedy="Report this to the plugin's author.",
        )
    return layer


def quantized_linear(
    linear: nn.Linear, weight: Tensor, factors: Mapping[str, Tensor], restore: Restore, multiply: Multiply | None = None
) -> QuantizedLinear:
    """Return a frozen linear layer that stores the matrix of `linear` as `weight` and `factors`, and keeps its bias.

    Args:
        linear: the layer to replace.
        weight: the stored matrix, of any shape and an integer dtype, so that nothing computes with it by mistake; other formats can be
            viewed as integers, as in `weight.view(torch.int8)`. Block swap keeps it in CPU memory while its block waits.
        factors: the other stored tensors, by name. They stay on the device, so they should be small.
        restore: a function that is called as `restore(weight, factors, (out, in), dtype)`, and returns the matrix `[out, in]` in `dtype`
            from these arguments alone.
        multiply: a function that is called as `multiply(inputs, weight, factors, bias)` for a product in low precision, and that passes
            gradients to the inputs; None to multiply by the restored matrix.
    """
    if weight.is_floating_point() or weight.is_complex():
        raise TypeError(f"a stored matrix must have an integer dtype, but this one is {weight.dtype}")
    layer = QuantizedLinear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
    layer.weight, layer.bias = Parameter(weight, requires_grad=False), linear.bias
    for name, factor in factors.items():
        if hasattr(layer, name):
            raise ValueError(f'a factor cannot be called "{name}", which is an attribute of the layer')
        layer.register_buffer(name, factor)
    layer.restore, layer.multiply = restore, multiply
    return layer


class QuantizedLinear(nn.Linear):
    """A frozen linear layer with a quantized matrix.

    Attributes:
        weight: the stored matrix, in the shape that the quantizer chose, and as integers, so that nothing computes with it by mistake.
        restore: the function that restores the matrix.
        multiply: the function that multiplies by the stored matrix; None to multiply by the restored matrix.
    """

    restore: Restore
    multiply: Multiply | None

    @property
    def factors(self) -> dict[str, Tensor]:
        """The tensors that are stored besides the weight, by name."""
        return {name: factor for name, factor in self._buffers.items() if factor is not None}

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns of the matrix."""
        return self.out_features, self.in_features

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the dequantized weight, `[out, in]`, in `dtype`."""
        return self.restore(self.weight, self.factors, self.shape, dtype)

    @property
    def W_q(self) -> Tensor:
        """The stored weight. For a DoRA, peft calls `dequantize()` on a layer that has this attribute to get its whole weight."""
        return self.weight

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        if self.multiply is not None:
            return self.multiply(input.to(dtype), self.weight, self.factors, self.bias)
        names = tuple(self.factors)
        product: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.shape, self.restore, dtype, names, *self.factors.values()
        )
        return product

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """Move the layer, but never convert its stored tensors, since factors in fewer bits would restore a different matrix."""
        kept = self.factors
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, factor in kept.items():
            moved: Tensor = self._buffers[name]  # type: ignore[assignment]
            if moved.dtype != factor.dtype:
                self._buffers[name] = factor.to(moved.device)
        return self


class _Product(torch.autograd.Function):
    """The function `F.linear` with a quantized weight, which is dequantized in the forward and again in the backward pass, and never
    kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shape: tuple[int, int],
        restore: Restore,
        dtype: torch.dtype,
        names: tuple[str, ...],
        *factors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(weight, *factors)
        ctx.shape, ctx.restore, ctx.names, ctx.dtype = shape, restore, names, x.dtype
        whole = restore(weight, dict(zip(names, factors, strict=True)), shape, dtype)
        return F.linear(x.to(dtype), whole, None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        weight, *factors = ctx.saved_tensors
        for_x = for_bias = None
        if ctx.needs_input_grad[0]:
            whole = ctx.restore(weight, dict(zip(ctx.names, factors, strict=True)), ctx.shape, gradient.dtype)
            for_x = (gradient @ whole).to(ctx.dtype)
        if ctx.needs_input_grad[2]:
            for_bias = gradient.flatten(0, -2).sum(dim=0)
        return for_x, None, for_bias, None, None, None, None, *(None for _ in factors)
