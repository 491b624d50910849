"""The schedules against closed forms."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from helpers.optimizers import adamw, optimization, schedule
from ltxcore.engines.schedules import TRIED, advance, try_schedule
from ltxcore.errors import ConfigError
from ltxcore.registry import load

STEPS = 20
PEAK = 1e-3


def rates(kind: str, steps: int = STEPS, warmup_steps: int | float = 0, **params: object) -> list[float]:
    parameter = Parameter(torch.zeros(2))
    optimizer = adamw([parameter], learning_rate=PEAK, betas=[0.9, 0.999], weight_decay=0.0)
    scheduler = schedule(optimizer, kind, params, steps, warmup_steps=warmup_steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    return found


EXPECTED = {
    "constant": lambda i: PEAK,
    "linear": lambda i: PEAK * (1 - 0.9 * i / STEPS),
    "cosine": lambda i: PEAK * (1 + math.cos(math.pi * i / STEPS)) / 2,
    "cosine_with_restarts": lambda i: 5e-5 + (PEAK - 5e-5) * (1 + math.cos(math.pi * (i % 5) / 5)) / 2,
    "polynomial": lambda i: PEAK * (1 - i / STEPS),
    "step": lambda i: PEAK * (0.1 if i >= 10 else 1),
    "warmup_stable_decay": lambda i: PEAK * (1 if i < 16 else (20 - i) / 4),
}


def test_every_schedule_of_the_run_file_is_tested() -> None:
    ours = {name for name, named in load().of_kind("schedule").items() if named.origin.distribution == "ltx"}
    assert EXPECTED.keys() == ours


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_schedule_follows_its_formula_over_the_steps_of_the_run(kind: str) -> None:
    assert rates(kind) == pytest.approx([EXPECTED[kind](i) for i in range(STEPS)], rel=1e-9, abs=1e-15)


def test_parameters_of_the_run_file_replace_defaults_and_are_left_in_it() -> None:
    params = {"start_factor": 0.5, "end_factor": 1.0, "total_iters": 4}
    parameter = Parameter(torch.zeros(1))
    optimizer = adamw([parameter], learning_rate=PEAK, betas=[0.9, 0.999], weight_decay=0.0)
    schedule(optimizer, "linear", params, STEPS)
    assert optimizer.param_groups[0]["lr"] == PEAK * 0.5
    assert params == {"start_factor": 0.5, "end_factor": 1.0, "total_iters": 4}
    assert rates("linear", **params)[:5] == pytest.approx([PEAK * (0.5 + 0.125 * i) for i in range(5)])


def test_a_value_that_the_schedule_refuses_is_an_error_that_names_it() -> None:
    optimizer = adamw([Parameter(torch.zeros(1))], learning_rate=PEAK, betas=[0.9, 0.999], weight_decay=0.0)
    with pytest.raises(ConfigError) as error:
        schedule(optimizer, "cosine_with_restarts", {"T_0": 0}, STEPS)
    assert str(error.value) == (
        'optimization.scheduler_params: the schedule "cosine_with_restarts" does not take these parameters: Expected positive integer T_0, but got 0\n'
        "    See `ltx plugins show cosine_with_restarts`; the run has 20 steps."
    )


def test_a_run_of_one_step_has_a_schedule_of_every_kind() -> None:
    for kind in EXPECTED:
        optimizer = adamw([Parameter(torch.zeros(1))], learning_rate=PEAK, betas=[0.9, 0.999], weight_decay=0.0)
        schedule(optimizer, kind, {}, 1)
        assert optimizer.param_groups[0]["lr"] == PEAK


@pytest.mark.parametrize("kind", EXPECTED)
def test_after_its_warm_up_a_schedule_is_what_it_is_without_one_over_the_steps_that_are_left(kind: str) -> None:
    grown = rates(kind, steps=STEPS + 4, warmup_steps=4)
    assert grown[:4] == pytest.approx([PEAK * i / 5 for i in range(1, 5)])
    assert grown[4:] == rates(kind)


def test_a_share_of_warm_up_is_a_share_of_all_steps() -> None:
    assert rates("linear", steps=STEPS, warmup_steps=0.25) == rates("linear", steps=STEPS, warmup_steps=5)


@pytest.mark.parametrize("after", [1, 3, 4, 9])
def test_a_schedule_resumes_in_its_warm_up_and_after_it(after: int) -> None:
    def made() -> tuple[Optimizer, LRScheduler]:
        optimizer = adamw([Parameter(torch.zeros(1))], learning_rate=PEAK)
        return optimizer, schedule(optimizer, "cosine", {}, STEPS, warmup_steps=4)

    (stepped, own), (resumed, other) = made(), made()
    advance(own, after)
    other.load_state_dict(json.loads(json.dumps(own.state_dict())))
    resumed.param_groups[0]["lr"] = stepped.param_groups[0]["lr"]
    for _ in range(after, STEPS):
        advance(own, 1)
        advance(other, 1)
        assert resumed.param_groups[0]["lr"] == stepped.param_groups[0]["lr"] == other.get_last_lr()[0]


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_a_schedule_that_is_taken_to_a_step_is_where_it_would_have_come_to_by_itself(kind: str) -> None:
    def made() -> tuple[Optimizer, LRScheduler]:
        optimizer = adamw([Parameter(torch.zeros(1))], learning_rate=1e-3, betas=[0.9, 0.999], weight_decay=0.0)
        return optimizer, schedule(optimizer, kind, {}, 20)

    (stepped, own), (taken, other) = made(), made()
    for _ in range(7):
        stepped.step()
        own.step()
    advance(other, 7)
    for _ in range(20 - 7):
        assert taken.param_groups[0]["lr"] == stepped.param_groups[0]["lr"]
        for optimizer, scheduler in ((stepped, own), (taken, other)):
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, TRIED - 1, TRIED, TRIED + 1, 10**9])
def test_the_defaults_of_every_schedule_hold_for_runs_of_any_length(kind: str, steps: int) -> None:
    try_schedule(optimization(scheduler_type=kind, scheduler_params={}, steps=steps, learning_rate=PEAK))


@pytest.mark.parametrize(
    ("kind", "params", "steps", "told"),
    [
        ("step", {"gamma": -0.5}, 4, "the learning rate after step 2 would be -0.0005"),
        ("step", {"gamma": 1e300, "step_size": 1}, 4, "the learning rate after step 2 would be inf"),
        ("cosine", {"eta_min": -1.0}, 4, "the learning rate after step 1 would be -0.145"),
        ("polynomial", {"power": -1.0}, 20, "at step 20: "),
        ("polynomial", {"power": -1.0}, 3000, "at step 3000: "),
        ("linear", {"total_iters": 10**400}, 4, "at step 1: "),
        ("linear", {"end_factor": 2.0}, 4, ""),
        ("cosine_with_restarts", {"T_0": 0}, 4, ""),
    ],
)
def test_a_schedule_without_a_learning_rate_at_some_step_is_refused_before_the_run(
    kind: str, params: dict[str, object], steps: int, told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        try_schedule(optimization(scheduler_type=kind, scheduler_params=params, steps=steps, learning_rate=PEAK))
    (problem,) = error.value.problems
    assert problem.what.startswith(f'the schedule "{kind}" does not take these parameters: {told}')
    assert problem.where == "optimization.scheduler_params"


def two_groups(kind: str = "cosine", peak: float = PEAK, **keys: Any) -> tuple[Optimizer, LRScheduler]:
    optimizer = adamw([Parameter(torch.zeros(1))], learning_rate=peak)
    optimizer.add_param_group({"params": [Parameter(torch.zeros(1))], "lr": peak / 8})
    return optimizer, schedule(optimizer, kind, {}, STEPS, learning_rate=peak, **keys)


def both(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("warmup_steps", [0, 4])
@pytest.mark.parametrize("kind", EXPECTED)
def test_a_schedule_multiplies_the_learning_rate_of_each_group(kind: str, warmup_steps: int) -> None:
    optimizer, scheduler = two_groups(kind, warmup_steps=warmup_steps)
    expected, found = rates(kind, warmup_steps=warmup_steps), []
    for _ in range(STEPS):
        found.append(both(optimizer))
        advance(scheduler, 1)
    assert [rate for rate, _ in found] == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert [rate for _, rate in found] == pytest.approx([rate / 8 for rate in expected], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("after", [2, 9])
def test_a_schedule_of_several_groups_resumes_to_the_last_bit(after: int) -> None:
    (stepped, own), (resumed, other) = (two_groups(warmup_steps=4) for _ in range(2))
    advance(own, after)
    other.load_state_dict(json.loads(json.dumps(own.state_dict())))
    for group, rate in zip(resumed.param_groups, both(stepped), strict=True):
        group["lr"] = rate
    for _ in range(after, STEPS):
        advance(own, 1)
        advance(other, 1)
        assert both(resumed) == both(stepped) == other.get_last_lr()
