"""`ltx studio`: see the data, edit the run file, follow runs, compare, try and export, in a browser."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"studio": LazyCommand("ltxplugins.studio.command:studio", "See, listen, compare and run, in a browser.")}
