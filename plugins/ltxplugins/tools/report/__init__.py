"""`ltx report`, which writes a page about a run. Every run also writes this page itself."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl
from ltxplugins.tools.report.tracker import Report


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    about = "Write a report about a run: curves, samples that play, how to use it."
    return {"report": LazyCommand("ltxplugins.tools.report.command:report", about)}


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"report": Report}
