"""The optimiser and the learning-rate schedules."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LambdaLR, LinearLR, LRScheduler, PolynomialLR, StepLR

from ltxcore.errors import ConfigError


def _constant(optimizer: Optimizer) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: 1.0)


SCHEDULES: Mapping[str, tuple[Callable[..., LRScheduler], Callable[[int], dict[str, Any]]]] = {
    "constant": (_constant, lambda steps: {}),
    "linear": (LinearLR, lambda steps: {"start_factor": 1.0, "end_factor": 0.1, "total_iters": steps}),
    "cosine": (CosineAnnealingLR, lambda steps: {"T_max": steps, "eta_min": 0.0}),
    "cosine_with_restarts": (CosineAnnealingWarmRestarts, lambda steps: {"T_0": max(1, steps // 4), "T_mult": 1, "eta_min": 5e-5}),
    "polynomial": (PolynomialLR, lambda steps: {"total_iters": steps, "power": 1.0}),
    "step": (StepLR, lambda steps: {"step_size": max(1, steps // 2), "gamma": 0.1}),
}
"""By the name in the run file: the torch class, and its parameters for a run of so many optimiser steps."""

ROUNDING = 1e-12
"""How far below 0 a learning rate of 0 may come out."""

TRIED = 500
"""Steps that a schedule is tried for before a run; all of them would take seconds for a long one."""


def schedule(optimizer: Optimizer, kind: str, params: Mapping[str, Any], steps: int) -> LRScheduler:
    """The learning-rate schedule, stepped once an optimiser step, whatever the accumulation and the number of processes.

    Args:
        optimizer: whose rate it sets.
        kind: a name of `SCHEDULES`.
        params: parameters of the torch class in place of the defaults. Only read, so that the run file keeps them.
        steps: optimiser steps of the whole run.

    Raises:
        ConfigError: values that the torch class refuses.
    """
    make, defaults = SCHEDULES[kind]
    chosen = {**defaults(steps), **params}
    try:
        return make(optimizer, **chosen)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _refused(kind, steps, str(error)) from error


class _Rates(Optimizer):
    """A learning rate for a schedule to set, and nothing that is updated: an optimiser takes a second to import all that it may need."""

    def __init__(self, learning_rate: float) -> None:
        self.defaults = {"lr": learning_rate}
        self.param_groups = [{"params": [], "lr": learning_rate}]
        self.state = defaultdict(dict)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """There is nothing to update."""


def try_schedule(kind: str, params: Mapping[str, Any], steps: int, learning_rate: float) -> None:
    """Refuse a schedule whose learning rate is no number, or below 0, at the beginning of a run or at its end. Nothing is trained.

    Raises:
        ConfigError: as `schedule`, or with the step.
    """
    made = schedule(_Rates(learning_rate), kind, params, steps)
    _check_rates(made, kind, range(1, min(steps, TRIED) + 1), steps)
    if steps > TRIED and hasattr(made, "_get_closed_form_lr"):  # the others are what they are from the first steps on
        made.last_epoch = steps
        _check(kind, steps, steps, made._get_closed_form_lr)


def _check_rates(made: LRScheduler, kind: str, numbers: Iterable[int], steps: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected call of `lr_scheduler.step"
        )  # before any of the optimiser's, of which there are none
        for number in numbers:

            def step() -> list[float]:
                made.step()
                return [float(rate) for rate in made.get_last_lr()]

            _check(kind, number, steps, step)


def _check(kind: str, number: int, steps: int, rates: Callable[[], Iterable[Any]]) -> None:
    try:
        wrong = next((rate for rate in map(complex, rates()) if rate.imag or not -ROUNDING <= rate.real < float("inf")), None)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _refused(kind, steps, f"at step {number}: {error}") from error
    if wrong is not None:
        shown = f"{wrong.real:g}" if not wrong.imag else "no number"
        raise _refused(kind, steps, f"the learning rate after step {number} would be {shown}")


def _refused(kind: str, steps: int, why: str) -> ConfigError:
    return ConfigError(
        f'the schedule "{kind}" does not take these parameters: {why}',
        where="optimization.scheduler_params",
        remedy=f"For {steps} steps the defaults are {SCHEDULES[kind][1](steps)}.",
    )


def advance(scheduler: LRScheduler, steps: int) -> None:
    """Take a schedule to where it is after so many optimiser steps, by taking them."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected call of `lr_scheduler.step"
        )  # there was an optimiser step for each, in another process
        for _ in range(steps):
            scheduler.step()


def adamw(parameters: Iterable[Parameter], *, learning_rate: float, betas: tuple[float, float], weight_decay: float) -> Optimizer:
    """AdamW over `parameters`. One kernel a step instead of a dozen a tensor: a tiny model has hundreds of small ones."""
    return AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)


def adamw8bit(parameters: Iterable[Parameter], *, learning_rate: float, betas: tuple[float, float], weight_decay: float) -> Optimizer:
    """AdamW with moments of 8 bits, from bitsandbytes.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError(
            'the optimiser "adamw8bit" needs the package bitsandbytes, which is not installed',
            where="optimization.optimizer_type",
            remedy='Install it with `pip install "ltx[low-memory]"`, or use "adamw".',
        ) from error
    optimizer: Optimizer = bitsandbytes.optim.AdamW8bit(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    return optimizer


OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {"adamw": adamw, "adamw8bit": adamw8bit}
"""By `optimizer_type` in the run file."""
