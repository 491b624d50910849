"""`ltx model`, which shows what is in a checkpoint or a LoRA."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"model": LazyCommand("ltxplugins.tools.model.command:model", "Describe a checkpoint or a LoRA.")}
