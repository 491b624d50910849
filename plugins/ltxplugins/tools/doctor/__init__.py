"""`ltx doctor`: raw media and encoded sets, checked before any training. Nothing is written."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"doctor": LazyCommand("ltxplugins.tools.doctor.command:doctor", "Check raw media and encoded sets before training.")}
