"""Write the page of a run from its output folder."""

from __future__ import annotations

from pathlib import Path

from ltxcore.api.commands import write_whole
from ltxcore.api.runs import read_run
from ltxplugins.tools.report.media import Shelf
from ltxplugins.tools.report.page import page

FILE = "report.html"

EMBED = 64.0
"""The default for the number of MB of media in a page."""


def write_report(folder: Path, target: Path | None = None, embed: float = EMBED) -> Path:
    """Write the page of a run, and return its path.

    Args:
        folder: the run's output folder, finished or not.
        target: the file; by default report.html in `folder`.
        embed: the maximum number of MB of media in the page; further media are linked by their paths.

    Raises:
        ConfigError: the folder is not the output folder of a run.
        CheckpointError: the status of the run cannot be read.
        OSError: the file cannot be written.
    """
    record = read_run(folder)
    target = (target or record.folder / FILE).absolute()
    write_whole(target, page(record, Shelf(target, embed)).encode("utf-8", "backslashreplace"))
    return target
