"""`ltx reference`: reference clips for a dataset, made from its clips by a filter."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"reference": LazyCommand("ltxplugins.tools.reference.command:reference", "Make reference clips for a dataset.")}
