"""The test of a learning-rate schedule against its protocol, in runs of several lengths."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ltxcore.testing.keys import checking, note_all

LENGTHS = (1, 2, 3, 10, 300)
"""The lengths, in steps, of the runs that a schedule is tried in."""

PEAKS = (1e-3, 5e-4)
"""The learning rates of the groups that a schedule is tried on."""


def check_schedule(schedule: Any, **fields: Any) -> None:
    """Check that a schedule gives every step a learning rate, and gives the same learning rates when it resumes.

    Args:
        schedule: an object of the class that `ltx_schedules` names, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("schedule", schedule, fields) as (one, findings):
        for steps in LENGTHS:
            note_all(findings, _faults(one, steps), f'the schedule "{type(one).__name__}"', f"a run of {steps} steps")


def _made(one: Any, steps: int) -> tuple[Optimizer, Any]:
    optimizer = SGD([{"params": [Parameter(torch.zeros(1))], "lr": peak} for peak in PEAKS], lr=PEAKS[0])
    return optimizer, one.build(optimizer, steps)


def _faults(one: Any, steps: int) -> Iterator[str]:
    optimizer, scheduler = _made(one, steps)
    if not isinstance(scheduler, LRScheduler):
        yield f"builds {type(scheduler).__name__}, which is not a subclass of torch.optim.lr_scheduler.LRScheduler"
        return
    rates, half = [_now(optimizer)], steps // 2
    kept = json.dumps(scheduler.state_dict()) if half == 0 else ""
    for number in range(1, steps):
        _step(scheduler)
        rates.append(_now(optimizer))
        if number == half:
            kept = json.dumps(scheduler.state_dict())
    wrong = next((rate for each in rates for rate in each if not 0 <= rate < math.inf), None)
    if wrong is not None:
        yield f"sets the learning rate of a step to {wrong:g}"
        return
    other, again = _made(one, steps)
    again.load_state_dict(json.loads(kept))
    for group, rate in zip(other.param_groups, rates[half], strict=True):
        group["lr"] = rate
    resumed = [_now(other)]
    for _ in range(half + 1, steps):
        _step(again)
        resumed.append(_now(other))
    if resumed != rates[half:]:
        yield "resumes with different learning rates: everything that it keeps must be in its state_dict()"


def _now(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _step(scheduler: LRScheduler) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # nothing is trained
        scheduler.step()
