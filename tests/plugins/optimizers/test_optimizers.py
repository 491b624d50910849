"""The optimizers that come with ltx: each keeps to the protocol, and those that are ours or put together here do what they say."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch.nn import Parameter

from ltxcore.api.optimizers import ParameterGroup
from ltxcore.registry import load
from ltxcore.testing import check_optimizer
from ltxplugins.optimizers.adafactor import Adafactor
from ltxplugins.optimizers.lion import Lion
from ltxplugins.optimizers.muon import Muon

OURS = {name: named.value for name, named in load().of_kind("optimizer").items() if named.origin.distribution == "ltx"}


def group(learning_rate: float = 0.1, weight_decay: float = 0.0, **weights: torch.Tensor) -> ParameterGroup:
    """Weights, with underscores for the dots in their names, and gradients of ones."""
    parameters = {name.replace("__", "."): Parameter(weight.clone()) for name, weight in weights.items()}
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    return ParameterGroup(parameters, learning_rate, weight_decay)


@pytest.mark.parametrize("name", OURS)
def test_each_keeps_to_the_protocol(name: str) -> None:
    for package in getattr(OURS[name], "needs", {}):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    check_optimizer(OURS[name])


@pytest.mark.parametrize(
    "asked", [Lion(betas=(0.5, 0.0)), Adafactor(scale_parameter=True, d=2.0), Muon(nesterov=False, adjust_lr="original")]
)
def test_some_keep_to_it_with_other_parameters_too(asked: object) -> None:
    check_optimizer(asked)


def test_lion_moves_every_weight_by_the_learning_rate_as_the_mean_says() -> None:
    made = group(0.1, 0.5, a=torch.tensor([1.0, 1.0, 1.0]))
    weight = made.parameters["a"]
    optimizer = Lion(betas=(0.5, 0.8)).build([made])
    weight.grad = torch.tensor([2.0, -2.0, 0.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.95 - 0.1, 0.95 + 0.1, 0.95])
    assert optimizer.state[weight]["exp_avg"].tolist() == pytest.approx([0.4, -0.4, 0.0])
    weight.grad = torch.tensor([-0.3, 0.5, 0.0])  # 0.5 * 0.4 - 0.5 * 0.3 is above 0, and -0.5 * 0.4 + 0.5 * 0.5 too
    before = weight.detach().clone() * 0.95
    optimizer.step()
    assert (weight.detach() - before).tolist() == pytest.approx([-0.1, -0.1, 0.0])


def test_muon_takes_the_weights_of_modules_and_adamw_their_biases_and_tables() -> None:
    made = group(block__weight=torch.eye(4), block__bias=torch.zeros(4), scale_shift_table=torch.zeros(6, 4))
    optimizer = Muon().build([made])
    optimizer.step()
    kept = {name: sorted(optimizer.state[parameter]) for name, parameter in made.parameters.items()}
    adamw = ["exp_avg", "exp_avg_sq", "step"]
    assert kept == {"block.weight": ["momentum_buffer"], "block.bias": adamw, "scale_shift_table": adamw}


def test_muon_makes_the_update_of_a_matrix_go_as_far_in_every_direction() -> None:
    made = group(1.0, block__weight=torch.zeros(4, 4))
    made.parameters["block.weight"].grad = torch.diag(torch.tensor([1.0, 2.0, 4.0, 8.0]))
    Muon(adjust_lr="original", nesterov=False).build([made]).step()
    assert made.parameters["block.weight"].diagonal().abs().tolist() == pytest.approx([1.0] * 4, abs=0.35)


@pytest.mark.parametrize(("is_scaled", "ratio"), [(False, 1.0), (True, 100.0)])
def test_adafactor_moves_small_weights_as_far_as_large_ones_unless_it_is_told_to_scale(is_scaled: bool, ratio: float) -> None:
    made = group(0.01, small=torch.full((4, 4), 0.005), large=torch.full((4, 4), 0.5))
    before = {name: parameter.detach().clone() for name, parameter in made.parameters.items()}
    Adafactor(scale_parameter=is_scaled).build([made]).step()
    moved = {name: float((parameter.detach() - before[name]).abs().mean()) for name, parameter in made.parameters.items()}
    assert moved["large"] / moved["small"] == pytest.approx(ratio, rel=1e-3)
