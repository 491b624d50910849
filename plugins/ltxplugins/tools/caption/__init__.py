"""`ltx caption`, which writes captions for a dataset with a model that sees, and may hear, the clips."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"caption": LazyCommand("ltxplugins.tools.caption.command:caption", "Write captions with a vision model.")}
