"""LoRA files loaded as they are."""

from __future__ import annotations

from pathlib import Path

from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_load import fill_adapters, read_fitting


def load_lora(backbone: LTXBackbone, path: Path) -> None:
    """Load a LoRA file: into the adapters that the backbone has, whose modules must be those of the file, or into new ones as the file has them.

    Adapters that are wider than the file's compute the same: what the file does not fill of them starts again, at a product of 0. Adapters that
    learn lengths as well (DoRA) start from the lengths that a plain LoRA gives.

    Raises:
        CheckpointError: a name that is not known, a pair that is not whole, another generation, modules or shapes that are not the
            base's, modules of a modality the backbone does not have, or others, or narrower ones, than the adapters it has.
    """
    fill_adapters(backbone, read_fitting(backbone, path), str(path))
