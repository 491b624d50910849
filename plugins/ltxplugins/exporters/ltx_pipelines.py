"""LoRAs for ltx-pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.exporters import AdaptedModule
from ltxplugins.exporters.names import ORIGINAL, named, with_pair

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class LTXPipelines:
    """ltx-pipelines: original names with the prefix "diffusion_model.". It reads no alpha, but it reads the factors of references from the
    metadata.
    """

    adapters = frozenset({"lora"})
    loads_saved = frozenset({"lora"})
    use = "Pass it to a pipeline: --lora FILE 1.0"

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return named(module.tensors, ORIGINAL + module.path)

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return with_pair(file, ORIGINAL + path, base)
