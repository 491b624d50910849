"""Columns of datasets: their protocol, and the objects that they are given. Provisional until 1.0."""

from ltxcore.columns import Cell, ColumnType, Target

__all__ = ["Cell", "ColumnType", "Target"]
