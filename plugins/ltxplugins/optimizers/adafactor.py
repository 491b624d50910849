"""The optimizer "adafactor", from torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import FLOAT32, bytes_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

NEVER_SCALED = 1.0
"""Torch multiplies the learning rate by the root mean square of a weight or by this value, whichever is larger. The
weights of a model are smaller than 1, so this value always applies.
"""


@attrs.frozen
class Adafactor:
    """Adafactor, from torch: its state takes almost no memory, as it has one running mean for each row and column of a matrix."""

    updates_alone = True

    beta2_decay: float = attrs.field(
        default=-0.8,
        validator=attrs.validators.le(0),
        metadata={"help": "exponent of the step number, which sets how fast the running means forget"},
    )
    d: float = attrs.field(
        default=1.0, validator=attrs.validators.ge(1), metadata={"help": "updates with a larger root mean square are scaled down to this"}
    )
    scale_parameter: bool = attrs.field(
        default=False,
        metadata={"help": "multiply the learning rate by the root mean square of each weight; not useful for a LoRA, which begins at 0"},
    )

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        from torch.optim import Adafactor as TorchAdafactor

        least = 1e-3 if self.scale_parameter else NEVER_SCALED
        return TorchAdafactor([group.torch_group() for group in groups], beta2_decay=self.beta2_decay, eps=(None, least), d=self.d)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        if len(shape) < 2:
            return bytes_of(shape, 1)
        return FLOAT32 * prod(shape[:-2]) * (shape[-2] + shape[-1])
