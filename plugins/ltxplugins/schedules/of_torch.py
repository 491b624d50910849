"""Schedules from torch, whose parameters are keys of the run file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def _key(default: Any, text: str) -> Any:
    return attrs.field(default=default, metadata={"help": text})


def _steps(text: str, least: int | None = None) -> Any:
    """Return a key for a number of steps; below `least`, torch would compute learning rates that differ from the help."""
    validator = None if least is None else attrs.validators.optional(attrs.validators.ge(least))
    return attrs.field(default=None, validator=validator, metadata={"help": text, "unit": "steps"})


@attrs.frozen
class Constant:
    """The learning rate is the same in every step."""

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: 1.0)


@attrs.frozen
class Linear:
    """The learning rate falls in a straight line; by default, to a tenth at the end of the run."""

    start_factor: float = _key(1.0, "factor of the learning rate at the start")
    end_factor: float = _key(0.1, "factor of the learning rate at the end")
    total_iters: int | None = _steps("number of steps in which it changes; by default all", 0)

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import LinearLR

        return LinearLR(optimizer, self.start_factor, self.end_factor, steps if self.total_iters is None else self.total_iters)


@attrs.frozen
class Cosine:
    """The learning rate falls along half a cosine, to `eta_min` at the end of the run."""

    T_max: int | None = _steps("number of steps in which it falls; by default all", 1)
    eta_min: float = _key(0.0, "learning rate at the end")

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import CosineAnnealingLR

        return CosineAnnealingLR(optimizer, steps if self.T_max is None else self.T_max, self.eta_min)


@attrs.frozen
class CosineWithRestarts:
    """The learning rate repeatedly falls along half a cosine; by default, four times."""

    T_0: int | None = _steps("length of the first cycle; by default a quarter of the run")
    T_mult: int = _key(1, "how many times longer each cycle is than the one before")
    eta_min: float = _key(5e-5, "learning rate at the end of each cycle")

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

        return CosineAnnealingWarmRestarts(optimizer, max(1, steps // 4) if self.T_0 is None else self.T_0, self.T_mult, self.eta_min)


@attrs.frozen
class Polynomial:
    """The learning rate falls to 0, as a power of the remaining share of the run."""

    total_iters: int | None = _steps("number of steps in which it falls; by default all", 0)
    power: float = _key(1.0, "exponent of the polynomial")

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import PolynomialLR

        return PolynomialLR(optimizer, steps if self.total_iters is None else self.total_iters, self.power)


@attrs.frozen
class Step:
    """The learning rate falls in steps; by default once, to a tenth, in the middle of the run."""

    step_size: int | None = _steps("number of steps with the same learning rate; by default half of the run", 1)
    gamma: float = _key(0.1, "factor by which the learning rate is then multiplied")

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        from torch.optim.lr_scheduler import StepLR

        return StepLR(optimizer, max(1, steps // 2) if self.step_size is None else self.step_size, self.gamma)
