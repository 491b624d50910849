"""The quantizer "nf4": 4-bit numbers that suit normally distributed weights, from bitsandbytes.

It uses the functions of bitsandbytes but not its layers. Those layers repack their weights when they run on a CPU in
evaluation mode, and gradients cannot pass through them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, ClassVar

import attrs

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Linear

BLOCK = 64
"""The number of weights that share a scale factor."""

FACTOR = 4
"""The size in bytes of a scale factor in float32."""


@attrs.frozen
class NF4:
    """4 bits per weight, from bitsandbytes (QLoRA): each weight is one of sixteen values, times a factor for every 64 weights."""

    error = 0.12
    restoring_bytes = 2.0
    needs: ClassVar[Mapping[str, str]] = {"bitsandbytes": 'pip install "ltx[low-memory]"'}

    def store(self, linear: Linear) -> Linear:
        """Store the matrix in blocks of 64 numbers, with two numbers per byte, `[out * in / 2, 1]`.

        Source: docs/explanation/arithmetic.md#blocks-of-64-in-4-bits
        """
        from bitsandbytes.functional import quantize_4bit  # type: ignore[import-not-found, unused-ignore]

        from ltxcore.api.quantizers import quantized_linear

        weight = linear.weight.detach().contiguous()
        packed, state = quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4", compress_statistics=False)
        return quantized_linear(linear, packed, {"scale": state.absmax}, restored)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        count = prod(shape)
        return -(-count // 2) + -(-count // BLOCK) * FACTOR


def restored(weight: Tensor, factors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return the matrix, restored from its 4-bit numbers."""
    import torch

    whole: Tensor = torch.ops.bitsandbytes.dequantize_4bit(weight, factors["scale"], BLOCK, "nf4", shape, dtype)
    return whole
