"""The optimizer "adamw", from torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import betas, bytes_of, eps

if TYPE_CHECKING:
    from torch.optim import Optimizer


@attrs.frozen
class AdamW:
    """Adam with decoupled weight decay, from torch: it keeps two running means for each weight. Most LoRAs are trained with AdamW."""

    zero_stages = frozenset({1, 2, 3})
    updates_alone = True

    betas: tuple[float, float] = betas(0.9, 0.999)
    eps: float = eps(1e-8)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Return torch's fused AdamW, which runs one kernel per step instead of a dozen per tensor. A tiny model has
        hundreds of small tensors.
        """
        from torch.optim import AdamW as TorchAdamW

        return TorchAdamW([group.torch_group() for group in groups], betas=self.betas, eps=self.eps, fused=True)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return bytes_of(shape, 2)
