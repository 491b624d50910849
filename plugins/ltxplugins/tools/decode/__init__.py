"""`ltx decode`, which turns encoded samples back into files that can be played."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"decode": LazyCommand("ltxplugins.tools.decode.command:decode", "Turn encoded samples back into playable files.")}
