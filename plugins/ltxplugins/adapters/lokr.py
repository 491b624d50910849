"""The adapter "lokr", with the arithmetic and the tensor names of LyCORIS and peft."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import TYPE_CHECKING, Any, ClassVar, cast

import attrs

from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxplugins.adapters.folding import ALPHA, FACTORS, has_one_alpha, has_row_factors, power_of_two, scale_of

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter

W1, W2 = "lokr_w1", "lokr_w2"
"""The names of the two factors. If a factor is the product of two thin matrices, their names end in `_a` and `_b`, as
in `lokr_w2_a`.
"""


def _in_range(_: object, field: attrs.Attribute[int], value: int) -> None:
    if value != -1 and value < 1:
        raise ValueError(f"must be at least 1, or -1, not {value}")


@attrs.frozen
class Lokr:
    """LoKr: it adds the Kronecker product of two smaller matrices to a matrix. ComfyUI can load it.

    The rank applies to the larger of the two matrices. A LoKr has far fewer parameters than a LoRA of the same rank.
    Source: arXiv 2309.14859; docs/explanation/arithmetic.md#lokr-and-loha.
    """

    title = "LoKr"
    file_names: ClassVar[Mapping[str, str]] = {name: name for name in (W1, f"{W1}_a", f"{W1}_b", W2, f"{W2}_a", f"{W2}_b", ALPHA, FACTORS)}
    takes_dropout = False

    factor: int = attrs.field(
        default=-1,
        validator=_in_range,
        metadata={
            "help": "largest number of rows and columns of the smaller factor, which must divide those of the matrix; -1: as many as possible"
        },
    )
    decompose_both: bool = attrs.field(default=False, metadata={"help": "give the smaller factor a rank too, where that saves parameters"})

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        from ltxplugins.adapters.changed_torch import Changed

        return Changed(linear, self.shapes(linear.out_features, linear.in_features, settings), scale_of(settings), _product)

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return dict(found.tensors())

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        rows, columns = _divided(outputs, self.factor), _divided(inputs, self.factor)
        first, second = (rows, columns), (outputs // rows, inputs // columns)
        return {**_thin(W1, first, settings.rank, self.decompose_both), **_thin(W2, second, settings.rank, True)}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        """Set the larger factor to 0, and the other to uniform random numbers within 1 / sqrt(columns)."""
        from ltxplugins.adapters.changed_torch import uniform

        for name, tensor in self.tensors(layer).items():
            if name in (W2, f"{W2}_b"):
                tensor.zero_()
            else:
                tensor.copy_(uniform(tuple(tensor.shape), generator))

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        import torch

        found: Any = layer
        tensors = self.tensors(layer)
        return cast("Tensor", found.with_factors(base + found.scale * torch.kron(_whole(tensors, W1), _whole(tensors, W2))))

    # ---- files

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        first, second = _shape_of(shapes, W1), _shape_of(shapes, W2)
        if first is None or second is None or not has_one_alpha(shapes) or not has_row_factors(shapes, first[0] * second[0]):
            return None
        rank = _rank(shapes)
        # From this rank on, a factor is stored as a single matrix.
        return AdapterShape(first[0] * second[0], first[1] * second[1], rank or -(-max(second) // 2))

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]:
        """Return the tensors with alpha / rank folded into the smaller factor. Other programs divide the alpha in the
        file by the rank, but ignore it if both factors are single matrices.
        """
        import torch

        rank = _rank({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        alpha = power_of_two(rank or 1)
        written = _times(tensors, scale_of(settings) * (rank / alpha if rank else 1.0))
        return {**written, ALPHA: torch.tensor(alpha), **({FACTORS: tensors[FACTORS][:, None]} if FACTORS in tensors else {})}

    def from_file(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Mapping[str, Tensor]:
        rest = {name: tensor for name, tensor in tensors.items() if name != ALPHA}
        rank = _rank({name: tuple(tensor.shape) for name, tensor in rest.items()})
        alpha = tensors.get(ALPHA)
        rest |= {FACTORS: rest[FACTORS].flatten()} if FACTORS in rest else {}
        return rest if alpha is None or alpha.is_meta or not rank else _times(rest, float(alpha) / rank)

    def fill(self, layer: Module, linear: Linear, tensors: Mapping[str, Tensor]) -> None:
        found: Any = layer
        found.fill(_times({name: tensor for name, tensor in tensors.items() if name != FACTORS}, 1 / found.scale))
        found.take_factors(tensors)

    def adds(self, tensors: Mapping[str, Tensor]) -> bool:
        return FACTORS not in tensors

    def changes(self, tensors: Mapping[str, Tensor]) -> bool:
        return bool(_whole(tensors, W1).any()) and bool(_whole(tensors, W2).any())


def _divided(size: int, factor: int) -> int:
    """Return the number of rows or columns of the smaller factor. This is the largest divisor of `size` that is at most
    the square root of `size` and, if `factor` is positive, at most `factor`. If a positive `factor` divides `size`,
    this is instead the smaller of `factor` and `size / factor`.
    """
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor)
    most = isqrt(size) if factor < 0 else min(isqrt(size), factor)
    return next(number for number in range(most, 0, -1) if size % number == 0)


def _thin(name: str, shape: tuple[int, int], rank: int, can_be: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a factor: a single matrix, or two thin matrices if that is allowed and the rank is below
    half of the longer side.
    """
    if not can_be or rank >= max(shape) / 2:
        return {name: shape}
    return {f"{name}_a": (shape[0], rank), f"{name}_b": (rank, shape[1])}


def _shape_of(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, int] | None:
    whole, a, b = shapes.get(name, ()), shapes.get(f"{name}_a", ()), shapes.get(f"{name}_b", ())
    if len(whole) == 2 and not a and not b:
        return whole[0], whole[1]
    return (a[0], b[1]) if not whole and len(a) == len(b) == 2 and a[1] == b[0] > 0 else None


def _rank(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the rank of the factors; 0 if both are single matrices."""
    return next((shapes[name][1] for name in (f"{W1}_a", f"{W2}_a") if name in shapes), 0)


def _times(tensors: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the tensors of the same change, multiplied by a scale."""
    name = W1 if W1 in tensors else f"{W1}_b"
    return {**tensors, name: tensors[name] * scale}


def _whole(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name] if name in tensors else tensors[f"{name}_a"] @ tensors[f"{name}_b"]


def _product(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Multiply an input by the Kronecker product without computing this product: split the input into two axes, and
    multiply along each by one factor.
    """
    from torch.nn.functional import linear

    def by(name: str, x: Tensor) -> Tensor:
        return linear(x, tensors[name]) if name in tensors else linear(linear(x, tensors[f"{name}_b"]), tensors[f"{name}_a"])

    columns = (tensors[W1] if W1 in tensors else tensors[f"{W1}_b"]).shape[1]
    inner = by(W2, x.unflatten(-1, (columns, -1)))
    return by(W1, inner.transpose(-1, -2)).transpose(-1, -2).flatten(-2)
