"""What a run left in its output folder, finished or not, how to use it, and what charts of it need. Provisional until 1.0."""

from ltxcore.runs.read_run import Drawn, Record, Series, Weights, read_run
from ltxcore.runs.sample_command import sample_command
from ltxcore.scale import Scale

__all__ = ["Drawn", "Record", "Scale", "Series", "Weights", "read_run", "sample_command"]
