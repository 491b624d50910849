"""What an optimizer and a schedule are that a run file names, and what they are given. Provisional until 1.0."""

from ltxcore.protocols import OptimizerType, ParameterGroup, ScheduleType

__all__ = ["OptimizerType", "ParameterGroup", "ScheduleType"]
