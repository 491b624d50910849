"""LoRAs for ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.exporters import AdaptedModule
from ltxplugins.exporters.names import ORIGINAL, A, B, named

if TYPE_CHECKING:
    from torch import Tensor

DORA, SCALE = "dora", "dora_scale"
LENGTHS = "lora_magnitude_vector"
"""The learned length of each row, as ltx and diffusers call it."""


@attrs.frozen
class ComfyUI:
    """ComfyUI: original names with the prefix "diffusion_model.". It loads LoRA, LoKr and LoHa as they are saved, and a DoRA after an export.

    Instead of the learned length of a row, ComfyUI takes a factor that multiplies the length of the row in the base. An export of a DoRA
    computes these factors, and needs the base for this.
    Source: docs/explanation/arithmetic.md#dora, docs/explanation/arithmetic.md#lokr-and-loha.
    """

    adapters = frozenset({"lora", DORA, "lokr", "loha"})
    needs_base = frozenset({DORA})
    in_float32 = frozenset({SCALE})
    loads_saved = frozenset({"lora", "lokr", "loha"})
    use = "Put the file into ComfyUI/models/loras, and load it with the node LoraLoaderModelOnly."

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        before = ORIGINAL + module.path
        if module.base is None:
            return named(module.tensors, before)
        pair = {ending: module.tensors[ending] for ending in (A, B)}
        turned = _lengths(module.base + pair[B] @ pair[A]).clamp_min(_least(module.base))
        scale = module.tensors[LENGTHS][:, None] * (_lengths(module.base) + _least(module.base)) / turned
        return named({**pair, SCALE: scale}, before)

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        own = _Module(file, ORIGINAL + path)
        changed = base + own.change()
        scale = own.get(SCALE)
        return changed if scale is None else changed * scale / (_lengths(base) + _least(base))


@attrs.frozen
class _Module:
    """The tensors that ComfyUI finds for a module."""

    file: Mapping[str, Tensor]
    before: str

    def get(self, name: str) -> Tensor | None:
        return self.file.get(f"{self.before}.{name}")

    def __getitem__(self, name: str) -> Tensor:
        return self.file[f"{self.before}.{name}"]

    def change(self) -> Tensor:
        """Return the change that is added to the matrix of the base."""
        import torch

        if self.get("hada_w1_a") is not None:
            product = (self["hada_w1_a"] @ self["hada_w1_b"]) * (self["hada_w2_a"] @ self["hada_w2_b"])
            return product * self.scale("hada_w1_b")
        whole = [name for name in ("lokr_w1", "lokr_w2") if self.get(name) is not None]
        thin = [name for name in ("lokr_w1", "lokr_w2") if self.get(f"{name}_b") is not None]
        if whole or thin:
            first, second = (self[name] if name in whole else self[f"{name}_a"] @ self[f"{name}_b"] for name in ("lokr_w1", "lokr_w2"))
            # The rank that alpha is divided by is that of the last factor that has one.
            return torch.kron(first, second) * (self.scale(f"{thin[-1]}_b") if thin else 1.0)
        return self[B] @ self[A] * self.scale(A)

    def scale(self, thin: str) -> float:
        """Return alpha / rank, where the rank is the number of rows of a thin matrix; 1 if there is no alpha."""
        alpha = self.get("alpha")
        return 1.0 if alpha is None else float(alpha) / self[thin].shape[0]


def _lengths(matrix: Tensor) -> Tensor:
    return matrix.norm(dim=1, keepdim=True)


def _least(matrix: Tensor) -> float:
    """Return the number that ComfyUI adds to a length before it divides by the length."""
    import torch

    return torch.finfo(matrix.dtype).eps
