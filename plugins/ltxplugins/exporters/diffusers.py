"""LoRAs for diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.exporters import AdaptedModule, to_diffusers
from ltxplugins.exporters.names import ORIGINAL, A, named, with_pair

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "transformer."
LENGTHS = "lora_magnitude_vector"


@attrs.frozen
class Diffusers:
    """diffusers: its own names with the prefix "transformer.". It refuses a file with alphas, and converts the original names of a LoRA itself."""

    adapters = frozenset({"lora", "dora"})
    loads_saved = frozenset({"lora", "dora"})
    use = 'Load the file with pipeline.load_lora_weights("FILE").'

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return named(module.tensors, PREFIX + to_diffusers(module.path))

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        before = PREFIX + to_diffusers(path)
        if f"{before}.{A}" not in file:
            before = ORIGINAL + path
        changed = with_pair(file, before, base)
        lengths = file.get(f"{before}.{LENGTHS}")
        return changed if lengths is None else lengths[:, None] * changed / changed.norm(dim=1, keepdim=True)
