"""The adapter "lora", built on peft's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import CheckpointError
from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxplugins.adapters.folding import ALPHA, has_one_alpha
from ltxplugins.adapters.in_peft import ADAPTER, wrapped

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter

A, B = "lora_A", "lora_B"
"""The names of the two matrices of a LoRA."""

FILE_NAMES = {
    "lora_A.weight": A,
    "lora_B.weight": B,
    "lora_A.default.weight": A,
    "lora_B.default.weight": B,
    "lora_down.weight": A,
    "lora_up.weight": B,
    "lora.down.weight": A,
    "lora.up.weight": B,
    "alpha": ALPHA,
}
"""The endings of tensor names in files of ltx, diffusers, PEFT, and programs that follow kohya's. ltx writes the first
two.
"""


def by_root() -> Any:
    """Return the key that chooses the divisor of alpha."""
    return attrs.field(default=False, metadata={"help": "scale by alpha / sqrt(rank) instead, for high ranks (rsLoRA)"})


@attrs.frozen
class Lora:
    """LoRA: it adds the product of two thin matrices to a matrix, scaled by alpha / rank. Most programs can load it.

    The product is B A. A starts with uniform random numbers within 1 / sqrt(inputs), and B starts at 0.
    """

    title = "LoRA"
    file_names = FILE_NAMES
    zero_stages = frozenset({1, 2, 3})
    grows = True

    use_rslora: bool = by_root()

    def scale(self, settings: AdapterSettings) -> float:
        """Return the factor of B @ A. Source: rsLoRA, arXiv 2312.03732."""
        if settings.alpha is None:
            return 1.0
        return float(settings.alpha / (settings.rank**0.5 if self.use_rslora else settings.rank))

    def wrap(self, linear: Linear, settings: AdapterSettings, *, use_dora: bool = False) -> Module:
        from peft import LoraConfig

        from ltxplugins.adapters.changed_torch import as_computed

        made: Any = wrapped(
            linear,
            LoraConfig,
            r=settings.rank,
            lora_alpha=settings.rank if settings.alpha is None else settings.alpha,
            lora_dropout=settings.dropout,
            use_rslora=self.use_rslora and settings.alpha is not None,
            use_dora=use_dora,
            bias="none",
        )
        if not use_dora:  # DoRA computes its lengths in the dtype of the input
            made._cast_input_dtype = as_computed
        return made

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return {A: found.lora_A[ADAPTER].weight, B: found.lora_B[ADAPTER].weight}

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        return {A: (settings.rank, inputs), B: (outputs, settings.rank)}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        import torch

        a, b = self.tensors(layer).values()
        bound = linear.in_features**-0.5
        a.copy_(torch.rand(a.shape, generator=generator) * 2 * bound - bound)
        b.zero_()

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        """Return the matrix that the layer multiplies by. Source: docs/explanation/arithmetic.md#weight-of-a-lora."""
        a, b = self.tensors(layer).values()
        return base + _scale_in(layer) * b @ a

    # ---- files

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        a, b = shapes.get(A, ()), shapes.get(B, ())
        if not (len(a) == len(b) == 2 and 0 < a[0] == b[1]) or not has_one_alpha(shapes):
            return None
        return AdapterShape(b[0], a[1], a[0])

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]:
        """Return A, and B with alpha / rank folded in, so that B @ A is the complete change.

        Source: docs/explanation/arithmetic.md#folded-alpha
        """
        return {"lora_A.weight": tensors[A], "lora_B.weight": tensors[B] * self.scale(settings)}

    def from_file(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]:
        if about.get("use_dora"):
            raise CheckpointError("the file is marked as a DoRA but has no magnitudes", remedy="Export it again.")
        return folded(tensors, about)

    def fill(self, layer: Module, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        """Fill the layer. If the layer has a larger rank than the tensors, the further rows of A keep their values, and
        the further columns of B are 0.
        """
        a, b = self.tensors(layer).values()
        rank = tensors[A].shape[0]
        a[:rank].copy_(tensors[A])
        b.zero_()
        b[:, :rank].copy_(tensors[B] / _scale_in(layer))

    def join(self, changes: Sequence[tuple[Mapping[str, Tensor], float]]) -> Mapping[str, Tensor]:
        """Return a sum such as B1 A1 + B2 A2 as one pair, [B1 B2] and [A1; A2]."""
        import torch

        return {
            A: torch.cat([tensors[A] for tensors, _ in changes]),
            B: torch.cat([tensors[B] * strength for tensors, strength in changes], dim=1),
        }

    def adds(self, tensors: Mapping[str, Tensor]) -> bool:
        return True

    def changes(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a nonzero column of B is multiplied by a nonzero row of A."""
        return bool((tensors[A].abs().amax(dim=1) * tensors[B].abs().amax(dim=0)).any())

    def metadata(self, settings: AdapterSettings) -> Mapping[str, str]:
        alpha = settings.rank if settings.alpha is None else settings.alpha
        return {"use_rslora": "true"} if abs(self.scale(settings) - alpha / settings.rank) > 1e-9 * alpha else {}


def folded(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the tensors with the scale of B @ A folded into B. The scale is alpha / rank, or alpha / sqrt(rank) if the
    file says so; without an alpha, it is 1.
    """
    rest = {name: tensor for name, tensor in tensors.items() if name != ALPHA}
    return {**rest, B: rest[B] * _scale_of(tensors, about)}


def _scale_of(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> float:
    rank = tensors[A].shape[0]
    common = _common_alpha(about)
    if ALPHA in tensors:
        return 1.0 if tensors[ALPHA].is_meta else float(tensors[ALPHA]) / rank
    if common is None:
        return 1.0
    alpha, root = common
    return float(alpha / (rank**0.5 if root else rank))


def _common_alpha(about: Mapping[str, Any]) -> tuple[float, bool] | None:
    """Return the alpha of a module, and whether it is divided by the square root of the rank; None if the metadata
    has no alpha.
    """
    alpha = about.get("lora_alpha")
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < 2**63:
        raise CheckpointError(
            f"the metadata says lora_alpha = {str(alpha)[:30]}, which is not a valid scale", remedy="Download or copy the file again."
        )
    return float(alpha), bool(about.get("use_rslora"))


def _scale_in(layer: Any) -> float:
    return float(layer.scaling[ADAPTER])
