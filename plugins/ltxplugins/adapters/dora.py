"""The adapter "dora", built on peft's modules."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from ltxcore.api import CheckpointError
from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxplugins.adapters.folding import FACTORS
from ltxplugins.adapters.in_peft import ADAPTER
from ltxplugins.adapters.lora import FILE_NAMES, A, B, Lora, by_root, folded

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter

LENGTHS = "lora_magnitude_vector"
"""The name of the tensor with the learned length of each row."""


@attrs.frozen
class Dora:
    """DoRA: a LoRA that learns the length of each matrix row separately from its direction. diffusers can load it, and ComfyUI can after an export.

    At first, the lengths are those of the base matrix's rows. Source: DoRA, arXiv 2402.09353,
    docs/explanation/arithmetic.md#dora.
    """

    title = "DoRA"
    file_names: ClassVar[Mapping[str, str]] = {**FILE_NAMES, LENGTHS: LENGTHS, f"{LENGTHS}.weight": LENGTHS, FACTORS: FACTORS}
    layout = "diffusers"
    grows = True

    use_rslora: bool = by_root()

    @property
    def pair(self) -> Lora:
        """The LoRA that this adapter contains, without the lengths."""
        return Lora(self.use_rslora)

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        return self.pair.wrap(linear, settings, use_dora=True)

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return {**self.pair.tensors(layer), LENGTHS: found.lora_magnitude_vector[ADAPTER].weight}

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        return {**self.pair.shapes(outputs, inputs, settings), LENGTHS: (outputs,)}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        from ltxcore.api.adapters import weight_of

        self.pair.start(layer, linear, generator)
        self.tensors(layer)[LENGTHS].copy_(_lengths(weight_of(linear)))

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        turned = self.pair.weight(layer, base)
        return self.tensors(layer)[LENGTHS][:, None] * turned / _lengths(turned)[:, None]

    # ---- files

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        shape = self.pair.measure(shapes)
        found = [shapes[name] for name in (LENGTHS, FACTORS) if name in shapes]
        if shape is None or len(found) != 1 or prod(found[0]) != shape.outputs:
            return None
        # Factors in a row belong to the columns of the matrix, not to its rows.
        return None if FACTORS in shapes and found[0][0] != shape.outputs else shape

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]:
        if FACTORS in tensors:
            raise CheckpointError(
                f"this DoRA was exported for ComfyUI: it has {FACTORS} in place of the learned lengths of the rows",
                remedy="Export the file that the run saved.",
            )
        return {**self.pair.to_file(tensors, settings), LENGTHS: tensors[LENGTHS]}

    def from_file(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return {name: tensor.flatten() if name in (LENGTHS, FACTORS) else tensor for name, tensor in folded(tensors, about).items()}

    def fill(self, layer: Module, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        """Fill the layer. If the tensors are a plain LoRA, the lengths are computed from the matrix with this LoRA
        added; if a file for ComfyUI has factors in place of lengths, they are computed from these factors.
        """
        import torch

        from ltxcore.api.adapters import weight_of

        self.pair.fill(layer, linear, tensors)
        lengths = tensors.get(LENGTHS)
        if lengths is None:
            base = weight_of(linear).float()
            lengths = _lengths(base + (tensors[B] @ tensors[A]).to(base.device))
            if FACTORS in tensors:
                least = torch.finfo(torch.float32).eps
                lengths = tensors[FACTORS].to(base.device) * lengths.clamp_min(least) / (_lengths(base) + least)
        self.tensors(layer)[LENGTHS].copy_(lengths)

    def changes(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return True, because the lengths alone may change the matrix."""
        return True

    def metadata(self, settings: AdapterSettings) -> Mapping[str, str]:
        return {**self.pair.metadata(settings), "use_dora": "true"}


def _lengths(weight: Tensor) -> Tensor:
    """Return the length of each row of a matrix, float32."""
    import torch

    return torch.linalg.norm(weight.float(), dim=1)
