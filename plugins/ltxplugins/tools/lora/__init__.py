"""`ltx lora`, which makes a LoRA from others."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"lora": LazyCommand("ltxplugins.tools.lora.command:lora", "Make a LoRA from others, such as their average.")}
