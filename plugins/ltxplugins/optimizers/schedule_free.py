"""The optimizer "adamw_schedule_free", from the package schedulefree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import betas, bytes_of, eps

if TYPE_CHECKING:
    from torch.optim import Optimizer


@attrs.frozen
class AdamWScheduleFree:
    """Schedule-free AdamW, from schedulefree: an average of the weights replaces the schedule, so a run can end at any step."""

    needs: ClassVar[Mapping[str, str]] = {"schedulefree": 'pip install "ltx[optimizers]"'}
    schedules_itself = True
    copies_in_step = 1

    betas: tuple[float, float] = betas(0.9, 0.999)
    eps: float = eps(1e-8)
    warmup_steps: int = attrs.field(
        default=0,
        validator=attrs.validators.ge(0),
        metadata={"help": "number of steps in which the learning rate rises from 0", "unit": "steps"},
    )
    r: float = attrs.field(default=0.0, metadata={"help": "exponent of the step number in a step's weight in the mean"})
    weight_lr_power: float = attrs.field(default=2.0, metadata={"help": "exponent of the learning rate in a step's weight in the mean"})

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        import schedulefree

        optimizer: Optimizer = schedulefree.AdamWScheduleFree([group.torch_group() for group in groups], **attrs.asdict(self))
        return optimizer

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return bytes_of(shape, 2)
