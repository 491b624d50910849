"""The optimizer "adamw8bit": AdamW with an 8-bit state, from bitsandbytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, ClassVar

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import FLOAT32, betas, bytes_of, eps

if TYPE_CHECKING:
    from torch.optim import Optimizer

BLOCK, LEAST = 256, 4096
"""The number of values that share a scale factor, and the minimum size of a parameter whose state is stored in 8 bits.

Source: docs/explanation/arithmetic.md#moments-in-8-bits
"""


@attrs.frozen
class AdamW8bit:
    """AdamW with running means in 8 bits, from bitsandbytes: the state takes a quarter of the memory.

    The state of a weight with fewer than 4096 numbers stays in 32 bits.
    """

    updates_alone = True
    needs: ClassVar[Mapping[str, str]] = {"bitsandbytes": 'pip install "ltx[low-memory]"'}

    betas: tuple[float, float] = betas(0.9, 0.999)
    eps: float = eps(1e-8)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        import bitsandbytes  # type: ignore[import-not-found, unused-ignore]

        optimizer: Optimizer = bitsandbytes.optim.AdamW8bit([group.torch_group() for group in groups], betas=self.betas, eps=self.eps)
        return optimizer

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        numbers = prod(shape)
        return bytes_of(shape, 2) if numbers < LEAST else 2 * (numbers + -(-numbers // BLOCK) * FLOAT32)
