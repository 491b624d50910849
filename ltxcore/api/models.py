"""Models: what is in the files of checkpoints and LoRAs, and the codecs and the text encoder of a model. Provisional until 1.0."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ltxcore.errors import CheckpointError
from ltxcore.models.inventory import Inventory, inventory
from ltxcore.models.lora_inventory import LoraInventory
from ltxcore.models.shipped import TINY_BASE

if TYPE_CHECKING:
    from ltxcore.codecs.source import Model

__all__ = ["Inventory", "LoraInventory", "inspect_model", "model_codecs"]


def inspect_model(path: Path) -> Inventory | LoraInventory:
    """What is in a checkpoint, in a folder in the layout of diffusers, or in a LoRA; of "tiny", in the model that comes with ltx.

    Only headers are read, so that 40 GB take no longer than a LoRA.

    Raises:
        CheckpointError: there is no such file, it is not whole, or it is neither a model nor a LoRA.
    """
    place = TINY_BASE if str(path) == "tiny" and not path.exists() else path
    if not place.exists():
        raise CheckpointError("there is no such file or folder", where=str(path), remedy='Check the path, or use "tiny".')
    return inventory(place)


def model_codecs(
    model_path: str,
    *,
    text_encoder: Path | None = None,
    video_vae: Path | None = None,
    audio_vae: Path | None = None,
    device: str | None = None,
    tiling: bool = False,
) -> Model:
    """The codecs and the text encoder of a model: `.video()`, `.audio()` and `.text()` of what comes back, and its `.device`.

    A file is checked when one of them is asked for, and weights are read on their first use.

    Args:
        model_path: "tiny", a model file or a folder.
        text_encoder: its own file or folder, where the model does not hold it.
        video_vae: likewise.
        audio_vae: likewise.
        device: where they compute, such as "cuda:1"; none: on this process's own GPU, if there is one.
        tiling: whether clips are encoded and decoded in pieces, for less memory.

    Raises:
        ConfigError: there is no such device.
    """
    from ltxcore.codecs.source import Model
    from ltxcore.devices import device_named

    return Model(model_path, text_encoder, video_vae, audio_vae, device_named(device), tiling)
