"""`ltx reference`, which makes reference clips for a dataset from its clips with a filter."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"reference": LazyCommand("ltxplugins.tools.reference.command:reference", "Make reference clips for a dataset.")}
