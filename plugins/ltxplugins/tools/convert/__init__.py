"""`ltx convert`, which turns configurations of other trainers into run files."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"convert": LazyCommand("ltxplugins.tools.convert.command:convert", "Make a run file from a configuration of another trainer.")}
