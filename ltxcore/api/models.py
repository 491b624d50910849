"""Models: the content of checkpoints and LoRAs, and the codecs and the text encoder of a model. Provisional until 1.0."""

from __future__ import annotations

from pathlib import Path

from ltxcore.codecs.source import Codecs
from ltxcore.errors import CheckpointError
from ltxcore.models import TINY_BASE
from ltxcore.models.inventory import Inventory, LoraInventory, inventory

__all__ = ["Codecs", "Inventory", "LoraInventory", "inspect_model"]


def inspect_model(path: Path) -> Inventory | LoraInventory:
    """Describe the content of a checkpoint, of a folder in the diffusers layout, or of a LoRA; "tiny" is the model that
    comes with ltx.

    Only headers are read, so a 40 GB checkpoint takes no longer than a LoRA.

    Raises:
        CheckpointError: there is no such file, it is incomplete, or it is neither a model nor a LoRA.
    """
    place = TINY_BASE if str(path) == "tiny" and not path.exists() else path
    if not place.exists():
        raise CheckpointError("there is no such file or folder", where=str(path), remedy='Check the path, or use "tiny".')
    return inventory(place)
