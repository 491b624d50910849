"""What the run file says of the adapters of linear modules."""

from __future__ import annotations

import attrs


@attrs.frozen
class AdapterSettings:
    """The settings of the adapter of one module.

    Attributes:
        rank: the rank of its matrices.
        alpha: scales it by alpha / rank, or by alpha / sqrt(rank) with rsLoRA; None scales it by 1.
        dropout: the probability with which values of its input are dropped in training.
    """

    rank: int
    alpha: float | None
    dropout: float
