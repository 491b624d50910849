"""LoRA files loaded as they are, read and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ltxcore.config.exporters import exporter_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_export import Exported, export_lora
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_load import fill_adapters, read_fitting
from ltxcore.registry import load


def load_lora(backbone: LTXBackbone, path: Path) -> None:
    """Load a LoRA file: into the adapters that the backbone has, whose modules must be those of the file, or into new ones as the file has them.

    Adapters that are wider than the file's compute the same: what the file does not fill of them starts again, at a product of 0. Adapters that
    learn lengths as well (DoRA) start from the lengths that a plain LoRA gives.

    Raises:
        CheckpointError: a name that is not known, a pair that is not whole, another generation, modules or shapes that are not the
            base's, modules of a modality the backbone does not have, or others, or narrower ones, than the adapters it has.
    """
    fill_adapters(backbone, read_fitting(backbone, path), str(path))


def read_pairs(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A `[rank, inputs]` and B `[outputs, rank]` of every module of a plain LoRA, float32, with any alpha folded into B."""
    found = read_lora(path, str(path))
    assert found.kind.type == "lora"
    return {module: (tensors["lora_A"], tensors["lora_B"]) for module, tensors in found.modules.items()}


def export_for(source: Path, target: Path, program: str, **options: Any) -> Exported:
    """Export a file for a program, by its exporter's name, or with its keys: `NAME,key=value`."""
    return export_lora(source, target, exporter_of(program, load()), **options)
