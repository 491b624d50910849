"""`ltx doctor`, which checks raw media and encoded sets before training, and writes nothing."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"doctor": LazyCommand("ltxplugins.tools.doctor.command:doctor", "Check raw media and encoded sets before training.")}
