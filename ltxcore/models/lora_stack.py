"""Several LoRAs on one backbone, each with its own strength: their matrices are stacked, which is exact for any dtype
of the stored weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch

from ltxcore.errors import CheckpointError, ConfigError, listed
from ltxcore.files import is_file
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_file import LoraFile, Pairs, read_lora
from ltxcore.models.lora_load import check_generation, check_modules, fill_adapters
from ltxcore.models.parameter_names import is_needed, stream_of
from ltxcore.safetensors_files import read_header


@attrs.frozen
class Strength:
    """A LoRA file and its strength: 1 is as trained, 0 is off, and a negative strength subtracts its change."""

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Strength:
        """Parse `FILE` or `FILE:STRENGTH`.

        Raises:
            ConfigError: there is no such file.
        """
        path, colon, number = text.rpartition(":")
        try:
            found = cls(Path(path), float(number)) if colon and not is_file(Path(text)) else cls(Path(text))
        except ValueError:  # the colon belongs to the name
            found = cls(Path(text))
        if not is_file(found.path):
            raise ConfigError(
                f"there is no file {found.path}", remedy="Name a LoRA file, such as lora.safetensors or lora.safetensors:0.8."
            )
        return found

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata.

        Raises:
            CheckpointError: it is not a safetensors file.
        """
        return dict(read_header(self.path).metadata)


def load_loras(backbone: LTXBackbone, loras: Sequence[Strength]) -> None:
    """Load LoRA files, in any layout that `read_lora` reads, into a backbone without adapters.

    Modules of streams that the backbone does not hold are skipped: they would not affect its predictions.

    Args:
        backbone: the backbone, without adapters.
        loras: the files, whose changes are added. A DoRA, whose change cannot be added, must be the only one, with strength 1.

    Raises:
        CheckpointError: a file is not a LoRA of this model, has nothing left to load, or is a DoRA among others.

    Source: docs/explanation/arithmetic.md#several-loras
    """
    if not loras:
        return
    found = [_needed(backbone, lora.path) for lora in loras]
    if len(loras) == 1 and loras[0].strength == 1:
        fill_adapters(backbone, found[0], str(loras[0].path))
        return
    stacked: Pairs = {}
    for lora, file in zip(loras, found, strict=True):
        if file.magnitudes:
            remedy = "Use it alone and without a strength."
            raise CheckpointError(
                "it is a DoRA, which cannot have a strength or be combined with other LoRAs", where=str(lora.path), remedy=remedy
            )
        for name, (a, b) in file.pairs.items():
            others_a, others_b = stacked.get(name, (a[:0], b[:, :0]))
            # B1 A1 + B2 A2 = [B1 B2] [A1; A2]
            stacked[name] = torch.cat([others_a, a]), torch.cat([others_b, b * lora.strength], dim=1)
    fill_adapters(backbone, LoraFile(stacked, {}, {}), " + ".join(str(lora.path) for lora in loras))


def _needed(backbone: LTXBackbone, path: Path) -> LoraFile:
    """Read the part of a LoRA file for which this backbone has modules."""
    check_generation(backbone, path)
    file, known = read_lora(path, str(path)), backbone.blueprint.linears
    kept = {name: both for name, both in file.pairs.items() if name not in known or is_needed(name, backbone.modalities)}
    if not kept:
        streams = " and ".join(sorted({stream_of(name) for name in file.pairs} - {"cross"})) or "the attention between video and audio"
        raise CheckpointError(
            f"the LoRA has no effect: its modules belong to {streams}, but {listed(sorted(backbone.modalities))} is generated",
            where=str(path),
            remedy="Generate the modality that it was trained for.",
        )
    check_modules(backbone, kept, str(path))
    return attrs.evolve(file, pairs=kept, magnitudes={name: length for name, length in file.magnitudes.items() if name in kept})
