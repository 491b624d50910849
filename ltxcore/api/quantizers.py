"""Quantizers: their protocol, and the layer that they return. Provisional until 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltxcore.later import later
from ltxcore.quantizers import QuantizerType

if TYPE_CHECKING:
    from ltxcore.models.quantized import quantized_linear

__all__ = ["QuantizerType", "quantized_linear"]

__getattr__ = later(__name__, {"quantized_linear": "ltxcore.models.quantized"})
