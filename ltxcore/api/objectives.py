"""Objectives: their protocol, and the objects that they are given. Provisional until 1.0."""

from ltxcore.objective_types import ObjectiveType, Pass, Prepared

__all__ = ["ObjectiveType", "Pass", "Prepared"]
