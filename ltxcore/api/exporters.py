"""Exporters: their protocol, their arguments, module names in diffusers, and the programs that load each type. Provisional until 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltxcore.exporters import AdaptedModule, ExporterType
from ltxcore.later import later
from ltxcore.models.exports import Program, programs_for

if TYPE_CHECKING:
    from ltxcore.models.parameter_names import to_diffusers

__all__ = ["AdaptedModule", "ExporterType", "Program", "programs_for", "to_diffusers"]

__getattr__ = later(__name__, {"to_diffusers": "ltxcore.models.parameter_names"})
