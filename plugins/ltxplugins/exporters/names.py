"""Tensor names that consist of a prefix, the path of a module, and the ending that ltx itself uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ORIGINAL = "diffusion_model."
"""The prefix of original names."""

A, B = "lora_A.weight", "lora_B.weight"


def named(tensors: Mapping[str, Tensor], before: str) -> dict[str, Tensor]:
    """Return tensors by names that consist of `before` and their endings."""
    return {f"{before}.{ending}": tensor for ending, tensor in tensors.items()}


def with_pair(file: Mapping[str, Tensor], before: str, base: Tensor) -> Tensor:
    """Return W + B A: without an alpha, programs add the product as it is."""
    return base + file[f"{before}.{B}"] @ file[f"{before}.{A}"]
