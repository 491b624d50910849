"""`ltx publish`, which uploads a finished run to the Hugging Face Hub."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"publish": LazyCommand("ltxplugins.tools.publish.command:publish", "Upload a finished run to the Hugging Face Hub.")}
