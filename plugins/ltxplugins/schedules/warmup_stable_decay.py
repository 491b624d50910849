"""The schedule "warmup_stable_decay": the learning rate is constant for most of a run, and then falls to 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@attrs.frozen
class WarmupStableDecay:
    """The learning rate is constant, then falls in the last part of the run. A run can be extended until the learning
    rate begins to fall.

    Together with warmup_steps, this is the schedule "warm-up, stable, decay" (WSD).
    """

    decay: float = attrs.field(
        default=0.2,
        validator=[attrs.validators.gt(0), attrs.validators.le(1)],
        metadata={"help": "share of the steps, at the end of the run, in which the learning rate falls"},
    )
    end_factor: float = attrs.field(
        default=0.0, validator=[attrs.validators.ge(0), attrs.validators.le(1)], metadata={"help": "factor of the learning rate at the end"}
    )
    shape: Literal["linear", "sqrt"] = attrs.field(
        default="linear", metadata={"help": "how it falls: along a straight line, or as 1 minus a square root, which is fast at first"}
    )

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate in a step; steps are counted from 0."""
        first = steps - max(1, round(self.decay * steps))
        fallen = min(1.0, max(0.0, (step - first) / (steps - first)))
        return 1 - (1 - self.end_factor) * (fallen if self.shape == "linear" else fallen**0.5)

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.factor(step, steps))
