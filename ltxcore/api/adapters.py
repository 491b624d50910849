"""Adapters of linear modules: their protocol, their arguments, and the matrix of a quantized module. Provisional until 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltxcore.adapters import AdapterSettings, AdapterShape, AdapterType
from ltxcore.later import later

if TYPE_CHECKING:
    from ltxcore.models.adapters import weight_of

__all__ = ["AdapterSettings", "AdapterShape", "AdapterType", "weight_of"]

__getattr__ = later(__name__, {"weight_of": "ltxcore.models.adapters"})
