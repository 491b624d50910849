"""The optimizer "prodigy", from the package prodigyopt."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, ClassVar

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import FLOAT32, betas, bytes_of, eps

if TYPE_CHECKING:
    from torch.optim import Optimizer


@attrs.frozen
class Prodigy:
    """Prodigy, from prodigyopt: it finds its step size by itself. The learning rate multiplies the step size, and should be 1."""

    needs: ClassVar[Mapping[str, str]] = {"prodigyopt": 'pip install "ltx[optimizers]"'}
    learning_rate = 1.0
    shares_learning_rate = True

    betas: tuple[float, float] = betas(0.9, 0.999)
    eps: float = eps(1e-8)
    d0: float = attrs.field(default=1e-6, validator=attrs.validators.gt(0), metadata={"help": "first estimate of the step size"})
    d_coef: float = attrs.field(
        default=1.0,
        validator=attrs.validators.gt(0),
        metadata={"help": "factor by which the estimated step size is multiplied; the value to tune"},
    )
    growth_rate: float | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(attrs.validators.gt(1)),
        metadata={"help": "largest factor by which the step size may grow in one step; by default unlimited"},
    )
    use_bias_correction: bool = attrs.field(
        default=False, metadata={"help": "correct the bias of the running means in the first steps, as Adam does"}
    )
    safeguard_warmup: bool = attrs.field(
        default=False, metadata={"help": "ignore the learning rate in its estimate; for schedules with warmup"}
    )
    slice_p: int = attrs.field(
        default=1,
        validator=attrs.validators.ge(1),
        metadata={"help": "estimate from only every n-th number of each weight, which takes less memory"},
    )

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        import prodigyopt

        said = {name: value for name, value in attrs.asdict(self).items() if value is not None}
        with contextlib.redirect_stdout(io.StringIO()):  # Prodigy prints a line about weight decay
            optimizer: Optimizer = prodigyopt.Prodigy([group.torch_group() for group in groups], **said)
        return optimizer

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return bytes_of(shape, 2) + 2 * FLOAT32 * -(-prod(shape) // self.slice_p)
