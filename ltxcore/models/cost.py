"""What the weights of a run take: in a file, and in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

import torch

from ltxcore.models.quantized import BLOCK, Quantization, is_quantizable
from ltxcore.models.streams import is_needed

_FACTOR = 4
"""Bytes of a factor, float32."""


def weight_bytes(
    shapes: Mapping[str, tuple[int, ...]], modalities: Collection[str], dtype: torch.dtype, quantization: Quantization | None = None
) -> int:
    """Bytes that the weights of a run of `modalities` take.

    Args:
        shapes: of every parameter of the whole model (`Blueprint.shapes`).
        modalities: "video", "audio" or both.
        dtype: of the weights.
        quantization: how the matrices of the blocks are stored with fewer bits; none: as all others.
    """
    return sum(_bytes(name, shape, dtype, quantization) for name, shape in shapes.items() if is_needed(name, modalities))


def _bytes(name: str, shape: tuple[int, ...], dtype: torch.dtype, quantization: Quantization | None) -> int:
    count = prod(shape)
    if quantization is None or len(shape) != 2 or not is_quantizable(name):
        return count * dtype.itemsize
    if quantization == "nf4":
        return count // 2 + count // BLOCK * _FACTOR
    return count + shape[0] * _FACTOR
