"""Weights in bfloat16 are rounded without losing small updates, and updates in the backward pass are those of a step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Parameter, Sequential, Tanh
from torch.optim import SGD, Adafactor, AdamW, Optimizer

from ltxcore.engines.tensor_updates import BackwardUpdates, TensorUpdates, round_stochastically

Made = Callable[[list[Parameter]], Optimizer]
ADAMW: Made = lambda parameters: AdamW(parameters, lr=1e-2, fused=True)  # noqa: E731
OPTIMIZERS: dict[str, Made] = {
    "adamw": ADAMW,
    "adafactor": lambda parameters: Adafactor(parameters, lr=1e-2),
    "momentum": lambda parameters: SGD(parameters, lr=1e-2, momentum=0.9),
}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(dtype: torch.dtype = torch.float32) -> Sequential:
    torch.manual_seed(3)
    return Sequential(Linear(6, 16), Tanh(), Linear(16, 4)).to(dtype)


def loss(network: Sequential, seed: int = 0) -> Tensor:
    generator = draws(seed)
    given, wanted = torch.randn(32, 6, generator=generator), torch.randn(32, 4, generator=generator)
    return (network(given.to(network[0].weight.dtype)).float() - wanted).square().mean()


def updates(network: Sequential, make: Made = ADAMW, seed: int = 7) -> TensorUpdates:
    parameters = dict(network.named_parameters())
    return TensorUpdates(parameters, make(list(parameters.values())), seed)


def weights(network: Sequential) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def steps(network: Sequential, made: TensorUpdates, numbers: range) -> None:
    for step in numbers:
        loss(network, step).backward()
        for name in made.parameters:
            made.update(name, step)


# ---------------------------------------------------------------- rounding


def test_a_number_becomes_one_of_its_two_neighbours_and_their_mean_is_exact() -> None:
    lower, upper = torch.tensor(1.0), torch.tensor(1.0 + 2**-7)
    value = 1.0 + 0.3 * 2**-7
    found = round_stochastically(torch.full((200_000,), value), draws()).float()
    assert set(found.tolist()) == {float(lower), float(upper)}
    assert float(found.double().mean()) == pytest.approx(value, abs=4 * 2**-7 * math.sqrt(0.3 * 0.7 / 200_000))


def test_negative_numbers_are_rounded_likewise() -> None:
    found = round_stochastically(torch.full((200_000,), -3.3), draws()).double()
    assert float(found.mean()) == pytest.approx(-3.3, abs=1e-4)


def test_what_bfloat16_has_stays_as_it_is() -> None:
    there = torch.tensor([0.0, -0.0, 1.0, -2.5, 1e-38, math.inf, -math.inf]).bfloat16()
    assert torch.equal(round_stochastically(there.float(), draws()), there)


# ---------------------------------------------------------------- one tensor at a time


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_weights_are_updated_as_by_a_step_over_all_of_them(name: str) -> None:
    apart, together = model(), model()
    optimizer = OPTIMIZERS[name](list(together.parameters()))
    made = updates(apart, OPTIMIZERS[name])
    steps(apart, made, range(5))
    for step in range(5):
        loss(together, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    for (key, mine), other in zip(weights(apart).items(), weights(together).values(), strict=True):
        assert torch.equal(mine, other), key
    assert [len(group["params"]) for group in made.optimizer.param_groups] == [4]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_state_in_bfloat16_stay_so_and_take_half_the_bytes(name: str) -> None:
    network = model(torch.bfloat16)
    made = updates(network, OPTIMIZERS[name])
    steps(network, made, range(3))
    for parameter in network.parameters():
        assert parameter.dtype == torch.bfloat16
        assert parameter.grad is None
        whole = [value for value in made.optimizer.state[parameter].values() if torch.is_tensor(value) and value.shape == parameter.shape]
        assert all(value.dtype == torch.bfloat16 for value in whole)
    assert {id(parameter) for parameter in made.optimizer.state} == {id(parameter) for parameter in network.parameters()}


def test_updates_too_small_for_bfloat16_add_up_and_are_lost_without_rounding_stochastically() -> None:
    def after(rounded: bool) -> float:
        parameter = Parameter(torch.ones(4096, dtype=torch.bfloat16))
        optimizer = SGD([parameter], lr=1e-4)
        made = TensorUpdates({"w": parameter}, optimizer, seed=1)
        for step in range(200):
            parameter.grad = torch.ones_like(parameter)
            if rounded:
                made.update("w", step)
            else:
                optimizer.step()
        return float(parameter.detach().float().mean())

    assert after(rounded=False) == 1.0
    assert after(rounded=True) == pytest.approx(1 - 200 * 1e-4, abs=1e-3)


def test_the_same_seed_and_step_round_alike_and_others_differ() -> None:
    found = []
    for seed, first in ((7, 0), (7, 0), (8, 0), (7, 100)):
        network = model(torch.bfloat16)
        made = updates(network, seed=seed)
        for step in range(3):
            loss(network, step).backward()
            for name in made.parameters:
                made.update(name, first + step)
        found.append(torch.cat([each.flatten() for each in weights(network).values()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


# ---------------------------------------------------------------- within the backward pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_in_the_backward_pass_are_those_after_it(dtype: torch.dtype) -> None:
    inside, after = model(dtype), model(dtype)
    done = [0]
    backward = BackwardUpdates(updates(inside), 0.0, lambda: done[0])
    made = updates(after)
    for step in range(4):
        done[0] = step
        loss(inside, step).backward()
        assert all(parameter.grad is None for parameter in inside.parameters())
        loss(after, step).backward()
        expected = torch.nn.utils.get_total_norm([each.grad.float() for each in after.parameters() if each.grad is not None])
        assert backward.norm() == pytest.approx(float(expected), rel=1e-5)
        for name in made.parameters:
            made.update(name, step)
    for mine, other in zip(weights(inside).values(), weights(after).values(), strict=True):
        assert torch.equal(mine, other)


def test_each_tensor_is_clipped_by_its_own_norm() -> None:
    network, plain = model(), model()
    backward = BackwardUpdates(updates(network, lambda parameters: SGD(parameters, lr=1.0)), 0.01, lambda: 0)
    loss(network).backward()
    loss(plain).backward()
    assert backward.norm() > 0.01
    for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
        moved = (other - mine).detach()
        assert other.grad is not None
        torch.testing.assert_close(moved, other.grad * min(1.0, 0.01 / float(other.grad.norm())), rtol=1e-4, atol=1e-6)


def test_a_parameter_that_no_loss_reaches_has_a_gradient_of_zero() -> None:
    network, lone = model(), Parameter(torch.ones(3))
    parameters = {**dict(network.named_parameters()), "lone": lone}
    backward = BackwardUpdates(TensorUpdates(parameters, AdamW(parameters.values(), lr=0.1, weight_decay=0.5), 0), 0.0, lambda: 0)
    loss(network).backward()
    backward.norm()
    torch.testing.assert_close(lone.detach(), torch.full((3,), 0.95))


def test_a_gradient_that_is_not_finite_is_named_and_not_applied() -> None:
    network = model()
    backward = BackwardUpdates(updates(network), 1.0, lambda: 0)
    before = weights(network)
    (network[0].weight.sum() * math.nan + network[2].weight.sum()).backward()
    assert backward.norm() == math.inf
    assert backward.bad == "0.weight"
    assert torch.equal(network[0].weight, before["0.weight"])
    assert not torch.equal(network[2].weight, before["2.weight"])


def test_while_it_is_off_gradients_are_dropped_and_nothing_is_updated() -> None:
    network = model()
    backward = BackwardUpdates(updates(network), 1.0, lambda: 0)
    before = weights(network)
    with backward.off():
        loss(network).backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(mine, other) for mine, other in zip(weights(network).values(), before.values(), strict=True))
