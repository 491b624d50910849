"""Frozen weights in fewer bits, so that a LoRA run of a large model fits into less memory.

Only matrices of the blocks' attention and feed-forward are stored so, which are nearly all of a model; normalisations, tables, gates, AdaLN
and the projections in and out stay as they are. Activations are never rounded: a weight is brought back to the activations' dtype when it
is multiplied with, and again in the backward pass, so that no copy of it is kept.

- int8, fp8: a row of a matrix is whole numbers, or 8-bit floating point, times one factor. torch has the number formats; nothing else is needed.
- nf4: blocks of 64 numbers share a factor, 4.13 bits a weight. Source: QLoRA, arXiv 2305.14314. By bitsandbytes.
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
"""By the name in a run file. Names that end in -quanto are those of older run files; they mean what they meant."""

BITS: Mapping[Quantization, float] = {"int8": 8, "fp8": 8, "fp8uz": 8, "nf4": 4 + 8 / 64 + 32 / (64 * 256)}
"""Bits a weight, with the factors of blocks; a row's own factor, 32 bits, is not counted."""

_FORMATS: Mapping[str, tuple[torch.dtype, float]] = {
    "int8": (torch.int8, 127.0),
    "fp8": (torch.float8_e4m3fn, torch.finfo(torch.float8_e4m3fn).max),
    "fp8uz": (torch.float8_e4m3fnuz, torch.finfo(torch.float8_e4m3fnuz).max),
}
"""A number format, and what the largest value of a row becomes in it."""


def quantization_of(name: str | None) -> Quantization | None:
    """What a run file's name means.

    Raises:
        ConfigError: it cannot be had, or not without a package that is missing.
    """
    if name is None:
        return None
    if name not in NAMES:
        raise ConfigError(f'"{name}" cannot be had: nothing stores weights in so few bits and trains on them', remedy='Use "nf4".')
    if NAMES[name] == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            '"nf4" needs the package bitsandbytes, which is not installed',
            remedy='Install it with `pip install "ltx[low-memory]"`, or use "int8".',
        )
    return NAMES[name]


def is_quantizable(name: str) -> bool:
    """Whether a parameter (names of diffusers) is a matrix that may be stored in fewer bits."""
    parts = name.split(".")
    if parts[0] != "transformer_blocks" or parts[-1] != "weight" or len(parts) < 5:
        return False
    is_attention = parts[3].startswith("to_") and parts[3] != "to_gate_logits"
    return is_attention or parts[2].removeprefix("audio_") == "ff"


class RoundedLinear(nn.Linear):
    """A linear layer whose weight is stored in another number format, with a factor for each row. It is frozen.

    Attributes:
        weight: `[out, in]`, int8 or 8-bit floating point.
        scale: `[out, 1]`, float32.
    """

    scale: Tensor

    @classmethod
    def of(cls, linear: nn.Linear, kind: Quantization) -> RoundedLinear:
        """The nearest to `linear` that the format has."""
        stored, largest = _FORMATS[kind]
        weight = linear.weight.detach().float()
        # A row of zeros has any factor.
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / largest
        values = (weight / scale).clamp(-largest, largest)
        same = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        same.weight = Parameter((values.round() if stored == torch.int8 else values).to(stored), requires_grad=False)
        same.bias = linear.bias
        same.register_buffer("scale", scale)
        return same

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight as it counts, `[out, in]`."""
        return _restored(self.weight, self.scale, dtype)

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        product: Tensor = _Product.apply(input, self.weight, self.scale, self.bias, dtype)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """`F.linear` with a weight that is restored in both passes and kept in neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.dtype = x.dtype
        return F.linear(x.to(dtype), _restored(weight, scale, dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, None]:
        (gradient,) = gradients
        weight, scale = ctx.saved_tensors
        for_x = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = (gradient @ _restored(weight, scale, gradient.dtype)).to(ctx.dtype)
        if ctx.needs_input_grad[3]:
            for_bias = gradient.flatten(0, -2).sum(dim=0)
        return for_x, None, None, for_bias, None


def _restored(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight.float() * scale).to(dtype)


def quantized(linear: nn.Linear, kind: Quantization) -> nn.Linear:
    """The same layer with its weight in fewer bits, frozen; the bias is as it was.

    Raises:
        ConfigError: the package that it needs is missing.
    """
    return _nf4(linear) if kind == "nf4" else RoundedLinear.of(linear, kind)


def _nf4(linear: nn.Linear) -> nn.Linear:
    quantization_of("nf4")  # says what is missing
    from bitsandbytes.nn import Linear4bit, Params4bit  # type: ignore[import-not-found, unused-ignore]

    weight = linear.weight.detach()
    same = Linear4bit(
        linear.in_features, linear.out_features, bias=linear.bias is not None, compute_dtype=weight.dtype, quant_type="nf4", device="meta"
    )
    same.weight = Params4bit(weight.contiguous(), requires_grad=False, quant_type="nf4", compress_statistics=True)
    same.bias = linear.bias
    layer: nn.Linear = same.to(weight.device)  # rounds
    return layer


def is_quantized(linear: nn.Module) -> bool:
    """Whether a layer's weight is stored in fewer bits."""
    return isinstance(linear, RoundedLinear) or type(linear).__name__ == "Linear4bit"
