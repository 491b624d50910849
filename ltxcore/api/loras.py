"""LoRAs that are made from LoRAs and models: merges, differences of models, lower ranks, and measurements. Provisional until 1.0."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ltxcore.later import later
from ltxcore.models.adapter_types import Types, adapter_types
from ltxcore.registry import load_with

if TYPE_CHECKING:
    from ltxcore.config.loras import Strength
    from ltxcore.models.lora_info import measure_lora
    from ltxcore.models.lora_merge import merge_into_model, merge_loras
    from ltxcore.models.lora_tools import Approximated, extract_lora, resize_lora

__all__ = [
    "Approximated",
    "Strength",
    "adapter_types_with",
    "extract_lora",
    "measure_lora",
    "merge_into_model",
    "merge_loras",
    "resize_lora",
]

__getattr__ = later(
    __name__,
    {
        "Approximated": "ltxcore.models.lora_tools",
        "Strength": "ltxcore.config.loras",
        "extract_lora": "ltxcore.models.lora_tools",
        "measure_lora": "ltxcore.models.lora_info",
        "merge_into_model": "ltxcore.models.lora_merge",
        "merge_loras": "ltxcore.models.lora_merge",
        "resize_lora": "ltxcore.models.lora_tools",
    },
)


def adapter_types_with(plugins: Iterable[Path] = ()) -> Types:
    """Return the classes of adapters by name: those of the installed plugins, and those in these Python files.

    Raises:
        PluginError: plugins in these files are broken.
    """
    return adapter_types(load_with(plugins))
