"""Functions that approximate the change of a matrix by the product of two thin matrices, the closest of all that have its rank."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

MORE = 8
"""The number of singular values that are searched for in addition to the rank, so that those within the rank are found precisely."""

ROUNDS = 8
"""The number of rounds of this search."""

WIDE = 8
"""The search is used if the shorter side of a matrix is at least this many times the number of singular values that are searched for."""


@attrs.frozen(eq=False)
class Thin:
    """A product of two thin matrices in place of a change.

    Attributes:
        b, a: the matrices `[outputs, rank]` and `[rank, inputs]`, float32.
        size: the size of the whole change, which is the root of the sum of its squared numbers.
        left: the size of the difference between the whole change and the product.
    """

    b: Tensor
    a: Tensor
    size: float
    left: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def spectrum_of_pair(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular values of B A with their vectors, U `[outputs, k]`, S and V `[k, inputs]`, float64. The product, which is as large
    as the base's matrix, is never computed.
    """
    q_b, r_b = torch.linalg.qr(b.double())
    q_a, r_a = torch.linalg.qr(a.double().T)
    u, s, v = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return q_b @ u, s, v @ q_a.T


def spectrum_of_matrix(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return at least the `rank` largest singular values of a matrix with their vectors.

    For a matrix that is much larger than the rank, they are searched for among random directions, since all of them would take minutes.

    Source: arXiv 0909.4061, algorithm 4.4.
    """
    wanted = rank + MORE
    if min(matrix.shape) < WIDE * wanted:
        u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
        return u, s, v
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, columns = torch.svd_lowrank(matrix, q=wanted, niter=ROUNDS)
    return u, s, columns.T


def thinned(u: Tensor, s: Tensor, v: Tensor, *, size: float, rank: int, error: float | None = None) -> Thin:
    """Return the product of thin matrices that keeps the largest singular values.

    Args:
        u, s, v: the singular values with their vectors, the largest first.
        size: the size of the whole change.
        rank: the largest rank.
        error: the size of the difference, as a share of the whole size, up to which the rank is lowered; None to use the largest rank.

    Source: docs/explanation/arithmetic.md#change-of-a-lower-rank
    """
    squares = torch.cat([torch.zeros(1, dtype=torch.float64, device=s.device), s.double().square().cumsum(0)])
    left = (size**2 - squares).clamp_min(0).sqrt()
    chosen = min(rank, len(s))
    if error is not None:
        enough = (left <= error * size).nonzero()
        chosen = min(chosen, int(enough[0]) if len(enough) else chosen)
    chosen = max(1, chosen)
    root = s[:chosen].sqrt()
    return Thin((u[:, :chosen] * root).float(), (root[:, None] * v[:chosen]).float(), size, float(left[chosen]))
