"""`ltx split`, which cuts films into their scenes."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"split": LazyCommand("ltxplugins.tools.split.command:split", "Cut films into their scenes.")}
