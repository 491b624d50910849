"""The moving average of weights: the numbers, the exchange with the weights, and what an engine saves of it."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Sequential, Tanh

from helpers.optimizers import optimization
from ltxcore.config.kept_weights import EmaTable
from ltxcore.engines.average import WeightAverage, exchange_rounded, share_kept
from ltxcore.engines.saved import AVERAGE
from ltxcore.engines.single import SingleEngine, single_engine

STEPS = 30


def course(seed: int = 0, steps: int = STEPS) -> list[Tensor]:
    """The weights before training and after each step."""
    return list(torch.randn(steps + 1, 4, generator=torch.Generator().manual_seed(seed)).cumsum(0))


def followed(weights: list[Tensor], decay: float, every: int = 1) -> Tensor:
    weight = weights[0].clone()
    average = WeightAverage({"weight": weight}, decay, every)
    for each in weights[1:]:
        weight.copy_(each)
        average.step()
    assert average.steps == len(weights) - 1
    return average.tensors["weight"]


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("decay", [0.3, 0.5, 0.999])
def test_the_average_is_a_sum_of_all_weights_so_far_each_with_the_share_that_later_steps_left_of_it(decay: float) -> None:
    """Written out, where the code goes step by step: what step k brought is worth (1 - d_k) d_(k+1) ... d_n."""
    weights = course()
    kept = [min(decay, (1 + n) / (10 + n)) for n in range(1, STEPS + 1)]
    shares = [math.prod(kept), *((1 - kept[k]) * math.prod(kept[k + 1 :]) for k in range(STEPS))]
    assert math.fsum(shares) == pytest.approx(1)
    expected = sum(share * weight.double() for share, weight in zip(shares, weights, strict=True))
    torch.testing.assert_close(followed(weights, decay).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("every", [2, 5, 10])
def test_where_weights_stay_the_average_comes_as_near_in_fewer_updates(every: int) -> None:
    """With a decay below the warm-up's; there an update for `every` steps is as many updates for one."""
    weights = [torch.zeros(4), *[torch.ones(4)] * STEPS]
    torch.testing.assert_close(followed(weights, 0.15, every), followed(weights, 0.15), rtol=1e-6, atol=0)


def test_the_average_is_updated_after_the_first_step_and_then_every_so_many() -> None:
    updated = [step for step in range(1, 14) if share_kept(step, 0.5, 4) < 1]
    assert updated == [1, 4, 8, 12]
    assert [share_kept(step, 0.1, 4) for step in updated] == [0.1, 0.1**3, 0.1**4, 0.1**4]


# ---------------------------------------------------------------- in the place of the weights


def test_the_average_takes_the_place_of_the_weights_and_gives_it_back_bit_for_bit() -> None:
    weight, name = torch.randn(7, 3), "weight"
    average = WeightAverage({name: weight}, 0.9)
    weight.add_(1)
    average.step()
    there, mean = weight.clone(), average.tensors[name].clone()
    with average.in_place():
        assert torch.equal(weight, mean)
        assert torch.equal(average.tensors[name], there)
    assert torch.equal(weight, there)
    assert torch.equal(average.tensors[name], mean)


def test_only_the_named_weights_change_places() -> None:
    weights = {name: torch.zeros(2) for name in ("one", "other")}
    average = WeightAverage(weights, 0.9)
    for weight in weights.values():
        weight.add_(1)
    with average.in_place(["other"]):
        assert [float(weight.sum()) for weight in weights.values()] == [2.0, 0.0]


def test_weights_in_bfloat16_get_the_nearest_to_the_average_and_both_are_restored_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(100_000, generator=generator) * torch.logspace(-30, 30, 100_000)
    ties = torch.tensor([1 + 2**-8, -1 - 2**-8, 1 + 3 * 2**-8, 0.0, -0.0])  # halfway between two numbers of bfloat16, or one of them
    mean[: len(ties)] = ties
    weight = torch.randn(100_000, generator=generator).bfloat16()
    before = mean.clone(), weight.clone()
    exchange_rounded(weight, mean, brings=True)
    nearest = before[0].bfloat16().double()
    missed = (weight.double() - before[0].double()).abs(), (nearest - before[0].double()).abs()
    assert torch.equal(*missed)
    assert not torch.equal(weight, before[1])
    exchange_rounded(weight, mean, brings=False)
    assert torch.equal(mean.view(torch.int32), before[0].view(torch.int32))
    assert torch.equal(weight.view(torch.int16), before[1].view(torch.int16))


# ---------------------------------------------------------------- in an engine


def network(dtype: torch.dtype) -> Sequential:
    torch.manual_seed(3)
    return Sequential(Linear(6, 16), Tanh(), Linear(16, 4)).to(dtype)


def engine_of(dtype: torch.dtype = torch.float32, in_backward: bool = False, every: int = 1) -> SingleEngine:
    made = network(dtype)
    return single_engine(
        made,  # type: ignore[arg-type]
        dict(made.named_parameters()),
        optimization(learning_rate=1e-2, steps=10, scheduler_type="constant"),
        precision="no",
        device=torch.device("cpu"),
        rounding_seed=7 if dtype == torch.bfloat16 else None,
        in_backward=in_backward,
        ema=EmaTable(decay=0.9, every=every),
    )


def step(engine: SingleEngine, seed: int, scale: float = 1.0) -> float:
    given = torch.randn(32, 6, generator=torch.Generator().manual_seed(seed))
    made = engine.backbone
    engine.backward(made(given.to(made[0].weight.dtype)).float().square().mean() * scale)  # type: ignore[operator, index]
    return engine.step()


def averages(engine: SingleEngine) -> dict[str, Tensor]:
    assert engine.average is not None
    return {name: tensor.clone() for name, tensor in engine.average.tensors.items()}


@pytest.mark.parametrize(
    ("dtype", "in_backward"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)]
)
def test_an_engine_averages_its_weights_after_each_step_in_float32(dtype: torch.dtype, in_backward: bool) -> None:
    engine = engine_of(dtype, in_backward)
    expected = {name: parameter.detach().double() for name, parameter in engine.parameters.items()}
    for n in range(1, 9):
        step(engine, n)
        kept = min(0.9, (1 + n) / (10 + n))
        for name, parameter in engine.parameters.items():
            expected[name] = kept * expected[name] + (1 - kept) * parameter.detach().double()
    for name, tensor in averages(engine).items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(tensor.to(dtype), engine.parameters[name])


def test_a_step_whose_gradient_is_not_finite_does_not_count() -> None:
    engine = engine_of()
    step(engine, 1)
    before = averages(engine)
    assert not math.isfinite(step(engine, 2, math.nan))
    assert engine.average is not None
    assert engine.average.steps == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in averages(engine).items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_measuring_between_two_steps_changes_nothing(dtype: torch.dtype) -> None:
    first, second = engine_of(dtype), engine_of(dtype)
    given = torch.randn(8, 6, generator=torch.Generator().manual_seed(5)).to(dtype)
    for number in range(6):
        for engine in (first, second):
            step(engine, number)
        with second.averaged(), second.evaluating():
            assert not torch.equal(second.backbone(given), first.backbone(given))  # type: ignore[operator]
    assert all(torch.equal(parameter, second.parameters[name]) for name, parameter in first.parameters.items())
    assert all(torch.equal(tensor, averages(second)[name]) for name, tensor in averages(first).items())


def test_within_the_average_it_stays_in_place() -> None:
    engine = engine_of()
    for number in range(3):
        step(engine, number)
    average, before = averages(engine), {name: each.detach().clone() for name, each in engine.parameters.items()}
    with engine.averaged():
        with engine.averaged():
            assert all(torch.equal(each, average[name]) for name, each in engine.parameters.items())
        assert all(torch.equal(each, average[name]) for name, each in engine.parameters.items())
    assert all(torch.equal(each, before[name]) for name, each in engine.parameters.items())


@pytest.mark.parametrize("moments", [True, False])
def test_another_engine_goes_on_with_the_average_to_the_last_bit(moments: bool) -> None:
    whole, first = engine_of(every=2), engine_of(every=2)
    for number in range(5):
        step(first, number)
        step(whole, number)
    tensors, values = first.state(moments=moments)
    saved = {key: tensor.clone() for key, tensor in tensors.items()}
    second = engine_of(every=2)
    second.restore(saved, values)
    assert all(torch.equal(tensor, averages(first)[name]) for name, tensor in averages(second).items())
    assert not moments or all(not key.startswith(AVERAGE) for state in second.optimizer.state.values() for key in state)
    if moments:
        for number in range(5, 9):
            step(second, number)
            step(whole, number)
        assert all(torch.equal(tensor, averages(whole)[name]) for name, tensor in averages(second).items())


def test_from_a_state_without_an_average_it_begins_at_the_weights() -> None:
    first = engine_of()
    step(first, 1)
    without = attrs.evolve(first, average=None)
    tensors, values = without.state()
    second = engine_of()
    step(second, 2)
    second.restore({key: tensor.clone() for key, tensor in tensors.items()}, values)
    assert second.average is not None
    assert second.average.steps == 0
    assert all(torch.equal(tensor, first.parameters[name]) for name, tensor in averages(second).items())
