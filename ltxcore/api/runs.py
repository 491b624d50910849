"""What a run left in its output folder, finished or not, and how to use it. Provisional until 1.0."""

from ltxcore.runs.read_run import Drawn, Record, Series, Weights, read_run
from ltxcore.runs.sample_command import sample_command

__all__ = ["Drawn", "Record", "Series", "Weights", "read_run", "sample_command"]
