"""`ltx captions`, which lists, searches and changes the captions of a dataset."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"captions": LazyCommand("ltxplugins.tools.captions.command:captions", "List, search and change captions.")}
