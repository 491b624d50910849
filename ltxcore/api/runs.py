"""The data of runs, the record that a run leaves, the use of its result, and the values for charts. Provisional until 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltxcore.later import later
from ltxcore.runs.curves import binned, smoothed
from ltxcore.runs.read_run import Drawn, Record, Series, Weights, read_run, sample_command
from ltxcore.scale import Scale, short_number
from ltxcore.writer import writer_of

if TYPE_CHECKING:
    from ltxcore.runs.run_data import RunData, data_of_run

__all__ = [
    "Drawn",
    "Record",
    "RunData",
    "Scale",
    "Series",
    "Weights",
    "binned",
    "data_of_run",
    "read_run",
    "sample_command",
    "short_number",
    "smoothed",
    "writer_of",
]

__getattr__ = later(__name__, {"RunData": "ltxcore.runs.run_data", "data_of_run": "ltxcore.runs.run_data"})
