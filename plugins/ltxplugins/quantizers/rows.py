"""Quantizers that store each number in 8 bits, with one scale factor per row. They need only torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Linear

FACTOR = 4
"""The size in bytes of a scale factor in float32."""


@attrs.frozen
class Rows:
    """A base class for quantizers that store 8-bit numbers and one scale factor per row."""

    @property
    def number_format(self) -> torch.dtype:
        """The 8-bit number format."""
        raise NotImplementedError

    @property
    def largest(self) -> float:
        """The number that stands for the largest weight of a row."""
        import torch

        return torch.finfo(self.number_format).max

    def store(self, linear: Linear) -> Linear:
        """Divide each row by its scale factor, and store the nearest numbers of the format.

        Source: docs/explanation/arithmetic.md#rows-in-8-bits
        """
        import torch

        from ltxcore.api.quantizers import quantized_linear

        values, scale = self.rounded(linear.weight.detach())
        return quantized_linear(linear, values.view(torch.int8), {"scale": scale}, self.restored, self.multiply)

    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows `[N, C]` as 8-bit numbers, and the scale factor of each row, `[N, 1]` float32."""
        import torch

        whole = rows.float()
        # For a row of zeros, any factor is correct.
        scale = whole.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / self.largest
        values = (whole / scale).clamp(-self.largest, self.largest)
        return (values if self.number_format.is_floating_point else values.round()).to(self.number_format), scale

    @property
    def multiply(self) -> Callable[[Tensor, Tensor, Mapping[str, Tensor], Tensor | None], Tensor] | None:
        """The function that multiplies by the stored matrix; None to multiply by the restored matrix."""
        return None

    def restored(self, weight: Tensor, factors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Return the matrix, restored from its 8-bit numbers."""
        return (weight.view(self.number_format).float() * factors["scale"]).to(dtype)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape) + shape[0] * FACTOR


@attrs.frozen
class Int8(Rows):
    """8-bit integers, with a scale for each row."""

    error = 0.012

    @property
    def number_format(self) -> torch.dtype:
        import torch

        return torch.int8

    @property
    def largest(self) -> float:
        return 127.0


@attrs.frozen
class FP8(Rows):
    """8-bit floating-point numbers (e4m3fn), with a scale for each row; those of an 8-bit checkpoint are kept as they are stored."""

    error = 0.035
    keeps = "float8_e4m3fn"

    @property
    def number_format(self) -> torch.dtype:
        import torch

        return torch.float8_e4m3fn

    def keep(self, linear: Linear, weight: Tensor, scale: Tensor) -> Linear:
        """Store the numbers of a checkpoint, and the scale factor of each row, as they are."""
        import torch

        from ltxcore.api.quantizers import quantized_linear

        return quantized_linear(linear, weight.view(torch.int8), {"scale": scale}, self.restored, self.multiply)


@attrs.frozen
class FP8UZ(Rows):
    """8-bit floating-point numbers in the format of some AMD GPUs (e4m3fnuz), with a scale for each row."""

    error = 0.035

    @property
    def number_format(self) -> torch.dtype:
        import torch

        return torch.float8_e4m3fnuz
