"""Quantization of frozen weights, so that a LoRA run of a large model needs less memory.

Only the matrices of the blocks' attention and feed-forward are quantized, which make up nearly the whole model;
normalizations, tables, gates, AdaLN and the input and output projections stay as they are. Activations are never
quantized: a weight is dequantized to the activations' dtype when it is multiplied, and again in the backward pass, so
that no copy of it is kept.

- int8, fp8: a row of a matrix is stored as integers or 8-bit floating-point numbers, times one factor. torch has both formats; no
  other package is needed.
- nf4: each number is one of sixteen values, times a factor for every 64 numbers. Source: QLoRA, arXiv 2305.14314. It uses the
  functions of bitsandbytes but not its layers, which repack their weights when they are evaluated on a CPU, after which gradients
  cannot pass through them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.errors import ConfigError

Quantization = Literal["int8", "fp8", "fp8uz", "nf4"]

NAMES: Mapping[str, Quantization] = {
    "int8": "int8",
    "fp8": "fp8",
    "nf4": "nf4",
    "int8-quanto": "int8",
    "fp8-quanto": "fp8",
    "fp8uz-quanto": "fp8uz",
}
"""The quantization that each name in a run file stands for. Names that end in -quanto come from older run files and keep their meaning."""

BLOCK = 64
"""The number of weights that share a factor in nf4."""

BITS: Mapping[Quantization, float] = {"int8": 8, "fp8": 8, "fp8uz": 8, "nf4": 4 + 32 / BLOCK}
"""The bits per weight, including the factors of blocks but not the factor of a row, which is shared by thousands of weights."""

_FORMATS: Mapping[str, tuple[torch.dtype, float]] = {
    "int8": (torch.int8, 127.0),
    "fp8": (torch.float8_e4m3fn, torch.finfo(torch.float8_e4m3fn).max),
    "fp8uz": (torch.float8_e4m3fnuz, torch.finfo(torch.float8_e4m3fnuz).max),
}
"""The number format of each quantization with one factor per row, and the value that the largest weight of a row takes in it."""


def quantization_of(name: str | None) -> Quantization | None:
    """Return the quantization that a run file names.

    Raises:
        ConfigError: there is no such quantization, or a package that it needs is missing.
    """
    if name is None:
        return None
    if name not in NAMES:
        raise ConfigError(f'"{name}" is not available: no package can train on weights stored in so few bits', remedy='Use "nf4".')
    if NAMES[name] == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            '"nf4" needs the package bitsandbytes, which is not installed',
            remedy='Install it with `pip install "ltx[low-memory]"`, or use "int8".',
        )
    return NAMES[name]


def is_quantizable(name: str) -> bool:
    """Return whether a parameter (in diffusers' names) is a matrix that may be quantized."""
    parts = name.split(".")
    if parts[0] != "transformer_blocks" or parts[-1] != "weight" or len(parts) < 5:
        return False
    is_attention = parts[3].startswith("to_") and parts[3] != "to_gate_logits"
    return is_attention or parts[2].removeprefix("audio_") == "ff"


class RoundedLinear(nn.Linear):
    """A frozen linear layer whose weight is quantized.

    Attributes:
        weight: the weight as raw bytes, so that nothing computes with it by mistake: `[out, in]`, or for nf4, with two numbers
            per byte, `[out * in / 2, 1]`.
        scale: the factors, float32: one per row, `[out, 1]`, or for nf4 one per block, `[out * in / 64]`.
        kind: the quantization.
    """

    scale: Tensor
    kind: Quantization

    @classmethod
    def of(cls, linear: nn.Linear, kind: Quantization) -> RoundedLinear:
        """Quantize a linear layer's weight to the nearest values that can be stored, and keep its bias.

        Raises:
            ConfigError: the package that the quantization needs is missing.
        """
        if kind == "nf4":
            quantization_of(kind)  # reports what is missing
        same = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        stored, scale = _blocks(linear.weight.detach()) if kind == "nf4" else _rows(linear.weight.detach(), kind)
        same.weight = Parameter(stored, requires_grad=False)
        same.register_buffer("scale", scale)
        same.bias, same.kind = linear.bias, kind
        return same

    @classmethod
    def hollow(cls, linear: nn.Linear) -> RoundedLinear:
        """Return an int8 layer without values, on the meta device, in the shape of a linear layer."""
        same = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        same.weight = Parameter(torch.empty(linear.weight.shape, dtype=torch.int8, device="meta"), requires_grad=False)
        same.register_buffer("scale", torch.empty(linear.out_features, 1, device="meta"))
        same.bias, same.kind = linear.bias, "int8"
        return same

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the dequantized weight, `[out, in]`, in `dtype`."""
        return _restored(self.weight, self.scale, (self.out_features, self.in_features), self.kind, dtype)

    @property
    def W_q(self) -> Tensor:
        """The stored weight. For a DoRA, peft calls `dequantize()` on a layer that has this attribute to get its whole weight."""
        return self.weight

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        shape = (self.out_features, self.in_features)
        product: Tensor = _Product.apply(input, self.weight, self.scale, self.bias, shape, self.kind, dtype)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """`F.linear` with a quantized weight, which is dequantized in the forward and in the backward pass and kept in neither."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        shape: tuple[int, int],
        kind: Quantization,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.shape, ctx.kind, ctx.dtype = shape, kind, x.dtype
        return F.linear(x.to(dtype), _restored(weight, scale, shape, kind, dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, None, None, None]:
        (gradient,) = gradients
        weight, scale = ctx.saved_tensors
        for_x = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = (gradient @ _restored(weight, scale, ctx.shape, ctx.kind, gradient.dtype)).to(ctx.dtype)
        if ctx.needs_input_grad[3]:
            for_bias = gradient.flatten(0, -2).sum(dim=0)
        return for_x, None, None, for_bias, None, None, None


def _rows(weight: Tensor, kind: Quantization) -> tuple[Tensor, Tensor]:
    """Quantize each row to a number format, with one factor per row. Source: docs/explanation/arithmetic.md#rows-in-8-bits"""
    stored, largest = _FORMATS[kind]
    whole = weight.float()
    # For a row of zeros any factor will do.
    scale = whole.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / largest
    values = (whole / scale).clamp(-largest, largest)
    rounded = values.round() if stored == torch.int8 else values
    return rounded.to(stored).view(torch.int8), scale


def _blocks(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize the blocks of a matrix to nf4, with one factor per block.

    Source: docs/explanation/arithmetic.md#blocks-of-64-in-4-bits
    """
    from bitsandbytes.functional import quantize_4bit  # type: ignore[import-not-found, unused-ignore]

    packed, state = quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4", compress_statistics=False)
    return packed, state.absmax


def _restored(weight: Tensor, scale: Tensor, shape: tuple[int, int], kind: Quantization, dtype: torch.dtype) -> Tensor:
    if kind != "nf4":
        return (weight.view(_FORMATS[kind][0]).float() * scale).to(dtype)
    whole: Tensor = torch.ops.bitsandbytes.dequantize_4bit(weight, scale, BLOCK, "nf4", shape, dtype)
    return whole
