"""The optimizer "lion", in our own implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import betas, bytes_of

if TYPE_CHECKING:
    from torch.optim import Optimizer


@attrs.frozen
class Lion:
    """Lion: every weight moves by the full learning rate, up or down as a running mean says. Its state is half as large as AdamW's.

    Divide AdamW's learning rate by 3 to 10, and multiply the weight decay by the same factor.
    """

    zero_stages = frozenset({1, 2, 3})
    updates_alone = True

    betas: tuple[float, float] = betas(0.9, 0.99)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        from ltxplugins.optimizers.lion_torch import LionOptimizer

        return LionOptimizer([group.torch_group() for group in groups], self.betas)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return bytes_of(shape, 1)
