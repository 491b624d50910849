"""The adapter "loha", with the arithmetic and the tensor names of LyCORIS and peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import attrs

from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxplugins.adapters.folding import ALPHA, FACTORS, has_one_alpha, has_row_factors, power_of_two, scale_of

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter

NAMES = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


@attrs.frozen
class Loha:
    """LoHa: it adds the elementwise product of two LoRAs to a matrix. ComfyUI can load it.

    The rank of this product can be as large as the product of the two LoRAs' ranks. A LoHa has twice as many parameters
    as a LoRA of the same rank. Source: arXiv 2108.06098; docs/explanation/arithmetic.md#lokr-and-loha.
    """

    title = "LoHa"
    file_names: ClassVar[Mapping[str, str]] = {name: name for name in (*NAMES, ALPHA, FACTORS)}
    takes_dropout = False

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        from ltxplugins.adapters.changed_torch import Changed

        return Changed(linear, self.shapes(linear.out_features, linear.in_features, settings), scale_of(settings), _product)

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return dict(found.tensors())

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        thin = ((outputs, settings.rank), (settings.rank, inputs))
        return dict(zip(NAMES, (*thin, *thin), strict=True))

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        """Set the last matrix to 0, and the others to uniform random numbers within 1 / sqrt(columns)."""
        from ltxplugins.adapters.changed_torch import uniform

        for name, tensor in self.tensors(layer).items():
            if name == NAMES[-1]:
                tensor.zero_()
            else:
                tensor.copy_(uniform(tuple(tensor.shape), generator))

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        found: Any = layer
        return cast("Tensor", found.with_factors(base + found.scale * _matrix(*(self.tensors(layer)[name] for name in NAMES))))

    # ---- files

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        found = [shapes.get(name, ()) for name in NAMES]
        if (
            not all(len(shape) == 2 for shape in found)
            or found[:2] != found[2:]
            or not found[0][1] == found[1][0] > 0
            or not has_one_alpha(shapes)
            or not has_row_factors(shapes, found[0][0])
        ):
            return None
        return AdapterShape(found[0][0], found[1][1], found[0][1])

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]:
        """Return the tensors with alpha / rank folded into the first. Other programs divide the alpha in the file by
        the rank.
        """
        import torch

        alpha = power_of_two(settings.rank)
        written = _times(tensors, scale_of(settings) * settings.rank / alpha)
        return {**written, ALPHA: torch.tensor(alpha), **({FACTORS: tensors[FACTORS][:, None]} if FACTORS in tensors else {})}

    def from_file(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]:
        rest = {name: tensors[name] for name in NAMES} | ({FACTORS: tensors[FACTORS].flatten()} if FACTORS in tensors else {})
        alpha = tensors.get(ALPHA)
        return rest if alpha is None or alpha.is_meta else _times(rest, float(alpha) / rest[NAMES[1]].shape[0])

    def fill(self, layer: Module, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        found: Any = layer
        found.fill(_times({name: tensors[name] for name in NAMES}, 1 / found.scale))
        found.take_factors(tensors)

    def adds(self, tensors: Mapping[str, Tensor]) -> bool:
        return FACTORS not in tensors

    def changes(self, tensors: Mapping[str, Tensor]) -> bool:
        return bool(_matrix(*(tensors[name] for name in NAMES)).any())


def _times(tensors: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the tensors of the same change, multiplied by a scale."""
    return {**tensors, NAMES[0]: tensors[NAMES[0]] * scale}


def _matrix(w1_a: Tensor, w1_b: Tensor, w2_a: Tensor, w2_b: Tensor) -> Tensor:
    return (w1_a @ w1_b) * (w2_a @ w2_b)


def _product(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Multiply an input by the change. The change is as large as the matrix itself, so it is not kept in memory; the backward pass
    recomputes it.
    """
    from torch.nn.functional import linear
    from torch.utils.checkpoint import checkpoint

    def multiplied(x: Tensor, *thin: Tensor) -> Tensor:
        return linear(x, _matrix(*thin))

    product: Tensor = checkpoint(multiplied, x, *(tensors[name] for name in NAMES), use_reentrant=False, preserve_rng_state=False)
    return product
