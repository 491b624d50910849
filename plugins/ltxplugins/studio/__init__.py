"""`ltx studio`, which shows data, run files and runs in a browser, and edits, starts, compares, tries and exports them."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {
        "studio": LazyCommand("ltxplugins.studio.command:studio", "Look at data, edit run files, and start and compare runs, in a browser.")
    }
