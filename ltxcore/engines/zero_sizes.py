"""Sizes of DeepSpeed's buffers under ZeRO stage 3, which follow from the shapes of the model's weights.

DeepSpeed's own defaults suit a language model of a few billion weights. Here, they would gather each matrix of an adapter by itself, and
gather most weights twice in a backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import attrs

IN_BLOCK = "transformer_blocks."
"""The part of a weight's name that shows that it is in a block."""


@attrs.frozen
class WeightShapes:
    """The shapes of a model, counted in numbers.

    Attributes:
        width: the model's width, which is the shorter side of its largest matrix.
        block: the mean size of a block, with its adapters; 0 if it is not known.
        adapter: the size of the largest weight of an adapter; 0 without adapters.
        adapters: the size of all adapters.
    """

    width: int = 4096
    block: int = 0
    adapter: int = 0
    adapters: int = 0

    @classmethod
    def of(cls, weights: Iterable[tuple[str, tuple[int, ...], int, bool]], layers: int) -> WeightShapes:
        """Count the shapes of a model of `layers` blocks, from the name and shape of each weight, the number of weights that it stands for,
        and whether these are weights of adapters.
        """
        known = list(weights)
        adapters = [(prod(shape), times) for _, shape, times, is_adapter in known if is_adapter]
        return cls(
            width=max(min(shape) for _, shape, _, _ in known if len(shape) == 2),
            block=-(-sum(times * prod(shape) for name, shape, times, _ in known if IN_BLOCK in name) // layers),
            adapter=max((size for size, _ in adapters), default=0),
            adapters=sum(size * times for size, times in adapters),
        )

    def sizes(self) -> dict[str, int]:
        """Return the sizes for stage 3 by their keys in DeepSpeed's configuration, in numbers.

        Source: docs/explanation/arithmetic.md#zero-stage-3
        """
        whole = self.adapter if self.adapters <= self.block else 0
        return {
            "stage3_param_persistence_threshold": max(10 * self.width, whole),
            "stage3_prefetch_bucket_size": self.block // 2,
            "stage3_max_reuse_distance": 2 * self.block,
            "stage3_max_live_parameters": 2 * self.block,
        }
