"""The optimiser and the learning-rate schedules.

What an optimiser keeps of itself in its parameter groups, beside its state of each parameter: a step size that it estimates, for one.

Room on the device for as long as nothing is trained: the optimiser's state in host memory.

Whether gradients are finite, asked of the device once: it is waited for each time that it is asked, and a model has thousands of them.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LambdaLR, LinearLR, LRScheduler, PolynomialLR, StepLR

from ltxcore.devices import is_gpu
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
        )  # before any of the optimizer's, of which there are none
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
        )  # there was an optimizer step for each, in another process
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
            'the optimizer "adamw8bit" needs the package bitsandbytes, which is not installed',
            where="optimization.optimizer_type",
            remedy='Install it with `pip install "ltx[low-memory]"`, or use "adamw".',
        ) from error
    optimizer: Optimizer = bitsandbytes.optim.AdamW8bit(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    return optimizer


OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {"adamw": adamw, "adamw8bit": adamw8bit}
"""By `optimizer_type` in the run file."""


GROUP = "group/"
"""What the keys of tensors in groups begin with, in a saved state; after it the group's number and the tensor's name."""

_OF_THE_SCHEDULE = {"params", "lr", "initial_lr"}

_ABSENT = object()


def moved(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """All values of each group that are no longer what the optimiser was built with: tensors by key, and what goes into JSON.

    What a run file says of an optimiser is not among them, so that a run can go on with another. Nor are learning rates, which the schedule sets.
    """
    tensors: dict[str, Tensor] = {}
    values: list[dict[str, Any]] = []
    for number, group in enumerate(optimizer.param_groups):
        values.append({})
        for name, value in group.items():
            if name in _OF_THE_SCHEDULE:
                continue
            if isinstance(value, Tensor):
                tensors[f"{GROUP}{number}/{name}"] = value.detach().clone()
            elif _is_plain(value) and not _is_same(value, optimizer.defaults.get(name, _ABSENT)):
                values[-1][name] = value
    return tensors, values


def put_back(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: list[dict[str, Any]]) -> None:
    """What `moved` gave, into the groups of an optimiser that was built anew."""
    for group, saved in zip(optimizer.param_groups, values, strict=False):
        group.update({name: tuple(value) if isinstance(group.get(name), tuple) else value for name, value in saved.items()})
    for key, tensor in tensors.items():
        if key.startswith(GROUP):
            number, _, name = key.removeprefix(GROUP).partition("/")
            group = optimizer.param_groups[int(number)]
            there = group.get(name)
            group[name] = tensor.to(there.device if isinstance(there, Tensor) else tensor.device, copy=True)


def _is_plain(value: Any) -> bool:
    """Whether JSON has it: a number, a word, nothing, or several of them."""
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def _is_same(value: Any, before: Any) -> bool:
    return before is not _ABSENT and not isinstance(before, Tensor) and bool(value == before)


Place = tuple[dict[Any, Any], str]
"""The state of a parameter, and the name of a tensor in it."""


@contextmanager
def state_in_host_memory(optimizer: Optimizer) -> Iterator[None]:
    """Meanwhile the tensors of an optimiser's state are in host memory, and afterwards where they were, with the same bits.

    One that several parameters share, as the tables of an optimiser of 8 bits are, moves once and is shared afterwards too. What is on the CPU
    already is left alone.
    """
    moved: list[tuple[list[Place], torch.device]] = []
    try:
        for places in _shared(optimizer):
            device = _at(places).device
            if device.type != "cpu":
                _put(places, in_host_memory(_at(places)))
                moved.append((places, device))
        yield
    finally:
        for places, device in moved:
            _put(places, _at(places).to(device))


def in_host_memory(tensor: Tensor) -> Tensor:
    """A copy on the CPU; pinned where it comes from a GPU, since a copy from and to pageable memory takes several times as long."""
    host = torch.empty_like(tensor, device="cpu", pin_memory=is_gpu(tensor.device))
    return host.copy_(tensor)


def _shared(optimizer: Optimizer) -> list[list[Place]]:
    """Where each tensor of the state is. Only places are kept: a tensor that is kept would keep its memory."""
    found: dict[int, list[Place]] = {}
    for state in optimizer.state.values():
        for kind, value in state.items():
            if isinstance(value, torch.Tensor):
                found.setdefault(id(value), []).append((state, kind))
    return list(found.values())


def _at(places: list[Place]) -> Tensor:
    state, kind = places[0]
    found: Tensor = state[kind]
    return found


def _put(places: list[Place], tensor: Tensor) -> None:
    for state, kind in places:
        state[kind] = tensor


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those with NaN or infinite values, in order. Only where there are any is each of them asked."""
    some = [tensor for tensor in tensors.values() if tensor.numel()]
    if not some or bool(torch.isfinite(get_total_norm(some, math.inf))):
        return []
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
