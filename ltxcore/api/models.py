"""The content of checkpoints and LoRAs, and the codecs and the text encoder of a model. Provisional until 1.0."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ltxcore.codecs.source import Codecs
from ltxcore.errors import CheckpointError
from ltxcore.models import TINY_BASE
from ltxcore.models.adapter_types import adapter_types
from ltxcore.models.inventory import Inventory, LoraInventory, inventory
from ltxcore.models.pretrained import Pretrained
from ltxcore.registry import load_with

__all__ = ["Codecs", "Inventory", "LoraInventory", "Pretrained", "inspect_model"]


def inspect_model(path: Path | str, plugins: Iterable[Path] = ()) -> Inventory | LoraInventory:
    """Describe the content of a checkpoint, of a folder in the diffusers layout, or of a LoRA; "tiny" is the model that
    comes with ltx.

    Only headers are read, so reading a 40 GB checkpoint takes no longer than reading a LoRA.

    Args:
        path: the file or folder.
        plugins: Python files that add types of adapters.

    Raises:
        CheckpointError: the file does not exist, is incomplete, or is neither a model nor a LoRA.
        PluginError: plugins in these files are broken.
    """
    place = TINY_BASE if str(path) == "tiny" and not Path(path).exists() else Path(path)
    if not place.exists():
        raise CheckpointError("there is no such file or folder", where=str(path), remedy='Check the path, or use "tiny".')
    return inventory(place, adapter_types(load_with(plugins)))
