"""Objectives: their protocol, and the objects that they are given. Provisional until 1.0."""

from ltxcore.protocols import ObjectiveType, Pass, Prepared

__all__ = ["ObjectiveType", "Pass", "Prepared"]
