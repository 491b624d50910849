"""`ltx lora`, which makes LoRAs from other LoRAs and measures them."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    return {"lora": LazyCommand("ltxplugins.tools.lora.command:lora", "Make LoRAs from others, and measure them.")}
