"""The adapter "pissa": a LoRA that starts from the largest singular values of the base matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api.adapters import AdapterSettings, AdapterShape
from ltxplugins.adapters.folding import scale_of
from ltxplugins.adapters.lora import FILE_NAMES, A, B, Lora

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Linear, Module, Parameter

START_A, START_B = "start_A", "start_B"
"""The names of the initial values of A and B, which are saved but not trained."""

MORE = 8
"""The number of singular values that are computed in addition to the rank, so that those within the rank are exact."""


@attrs.frozen
class Pissa:
    """PiSSA: a LoRA that learns faster, because it starts as the largest part of the matrix and replaces that part.

    The file contains the difference from this start as a plain LoRA of twice the rank, which any program can add to the original base
    model. Source: arXiv 2404.02948; docs/explanation/arithmetic.md#pissa.
    """

    title = "PiSSA"
    file_names = FILE_NAMES
    takes_dropout = False
    takes_quantized = False
    takes_file = False

    iterations: int = attrs.field(
        default=8, validator=attrs.validators.ge(1), metadata={"help": "rounds of the search for the largest singular values"}
    )

    def wrap(self, linear: Linear, settings: AdapterSettings) -> Module:
        from ltxplugins.adapters.changed_torch import Changed

        shapes = self.shapes(linear.out_features, linear.in_features, settings)
        return Changed(linear, shapes, scale_of(settings), _difference, frozen=(START_A, START_B))

    def tensors(self, layer: Module) -> Mapping[str, Parameter]:
        found: Any = layer
        return dict(found.tensors())

    def shapes(self, outputs: int, inputs: int, settings: AdapterSettings) -> Mapping[str, tuple[int, ...]]:
        a, b = (settings.rank, inputs), (outputs, settings.rank)
        return {A: a, B: b, START_A: a, START_B: b}

    def start(self, layer: Module, linear: Linear, generator: Generator) -> None:
        from ltxcore.api.adapters import weight_of

        found: Any = layer
        tensors = self.tensors(layer)
        u, s, v = _largest(weight_of(linear).float(), tensors[A].shape[0], self.iterations, generator)
        root = (s / found.scale).sqrt()
        for name, value in ((A, root[:, None] * v), (B, u * root)):
            tensors[name].zero_()
            tensors[name][: value.shape[0], : value.shape[1]].copy_(value)
        tensors[START_A].copy_(tensors[A])
        tensors[START_B].copy_(tensors[B])

    def weight(self, layer: Module, base: Tensor) -> Tensor:
        found: Any = layer
        tensors = self.tensors(layer)
        return base + found.scale * (tensors[B] @ tensors[A] - tensors[START_B] @ tensors[START_A])

    # ---- files

    def measure(self, shapes: Mapping[str, tuple[int, ...]]) -> AdapterShape | None:
        return Lora().measure(shapes)

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Mapping[str, Tensor]:
        """Return B A - B' A' as one pair of twice the rank, where B' and A' are the initial values.

        [B, -B'] and [A; A'] would be such a pair, but their products are as large as the base matrix, so rounding would
        destroy the small difference. The returned pair is as small as the difference: its singular vectors, multiplied
        by the square roots of its singular values.
        """
        import torch

        left = torch.cat([tensors[B], -tensors[START_B]], dim=1).double() * scale_of(settings)
        right = torch.cat([tensors[A], tensors[START_A]]).double()
        (q_left, r_left), (q_right, r_right) = torch.linalg.qr(left), torch.linalg.qr(right.T)
        u, s, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
        root = s.sqrt()
        return {"lora_A.weight": (root[:, None] * (v @ q_right.T)).float(), "lora_B.weight": ((q_left @ u) * root).float()}

    def metadata(self, settings: AdapterSettings) -> Mapping[str, str]:
        return {"rank": str(2 * settings.rank), "alpha": str(2 * settings.rank), "start": "pissa"}


def _difference(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    from torch.nn.functional import linear

    return linear(linear(x, tensors[A]), tensors[B]) - linear(linear(x, tensors[START_A]), tensors[START_B])


def _largest(weight: Tensor, rank: int, iterations: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest singular values S of a matrix `[outputs, inputs]` with their vectors U `[outputs, k]` and V
    `[k, inputs]`, where k is the smaller of the rank and the shorter side.

    The space that the vectors span is found by repeatedly multiplying random vectors by the matrix.

    Source: arXiv 0909.4061, algorithm 4.4.
    """
    import torch

    width = min(rank + MORE, *weight.shape)
    found = weight @ torch.randn(weight.shape[1], width, generator=generator).to(weight.device)
    for _ in range(iterations):
        found = weight @ torch.linalg.qr(weight.T @ torch.linalg.qr(found).Q).Q
    basis = torch.linalg.qr(found).Q
    u, s, v = torch.linalg.svd(basis.T @ weight, full_matrices=False)
    return (basis @ u)[:, :rank], s[:rank], v[:rank]
