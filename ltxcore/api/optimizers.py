"""The protocols of the optimizers and learning-rate schedules that a run file names, and the objects that they are
given. Provisional until 1.0.
"""

from ltxcore.protocols import OptimizerType, ParameterGroup, ScheduleType

__all__ = ["OptimizerType", "ParameterGroup", "ScheduleType"]
