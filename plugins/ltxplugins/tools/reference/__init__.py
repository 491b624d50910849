"""`ltx reference` and `ltx mask`, which make reference clips and masks for a dataset by applying a filter to its clips."""

from __future__ import annotations

from ltxcore.api import LazyCommand, hookimpl


@hookimpl
def ltx_commands() -> dict[str, LazyCommand]:
    commands = "ltxplugins.tools.reference.command"
    return {
        "reference": LazyCommand(f"{commands}:reference", "Make reference clips for a dataset."),
        "mask": LazyCommand(f"{commands}:mask", "Make masks for the clips of a dataset."),
    }
