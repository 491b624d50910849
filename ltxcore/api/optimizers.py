"""Optimizers and learning-rate schedules: their protocols, and the objects that they are given. Provisional until 1.0."""

from ltxcore.protocols import OptimizerType, ParameterGroup, ScheduleType

__all__ = ["OptimizerType", "ParameterGroup", "ScheduleType"]
