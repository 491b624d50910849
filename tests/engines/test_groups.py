"""The parameter groups of an optimizer: what each holds, its learning rate and weight decay, and what metrics call it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from helpers.optimizers import optimization
from ltxcore.config.run_file import OptimizationTable
from ltxcore.engines.groups import indices_of, parameter_groups, rates_of
from ltxcore.engines.optim import optimizer_of, try_optimizer
from ltxcore.errors import ConfigError

DEEP = {"name": "deep", "blocks": "1-", "learning_rate": 1e-4, "weight_decay": 0.0}
BIASES = {"modules": ["bias"], "weight_decay": 0.0}


def parameters(*parts: str) -> dict[str, Parameter]:
    return {
        f"transformer.transformer_blocks.{number}.attn1.to_k.{part}": Parameter(torch.zeros(4, 4) if "weight" in part else torch.zeros(4))
        for number in range(2)
        for part in parts
    }


WHOLE = parameters("weight", "bias")


def groups_of(table: OptimizationTable, held: dict[str, Parameter]) -> dict[str, tuple[float, float, list[str]]]:
    return {
        group.name: (
            group.learning_rate,
            group.weight_decay,
            [name.removeprefix("transformer.transformer_blocks.") for name in group.parameters],
        )
        for group in parameter_groups(table, held)
    }


def test_without_groups_all_parameters_are_one() -> None:
    assert groups_of(optimization(learning_rate=1e-3), WHOLE) == {
        "": (1e-3, 0.01, ["0.attn1.to_k.weight", "0.attn1.to_k.bias", "1.attn1.to_k.weight", "1.attn1.to_k.bias"])
    }


def test_a_group_has_its_own_learning_rate_and_weight_decay_and_the_rest_those_of_all() -> None:
    assert groups_of(optimization(learning_rate=1e-3, groups=[DEEP, BIASES]), WHOLE) == {
        "": (1e-3, 0.01, ["0.attn1.to_k.weight"]),
        "deep": (1e-4, 0.0, ["1.attn1.to_k.weight", "1.attn1.to_k.bias"]),
        "group_2": (1e-3, 0.0, ["0.attn1.to_k.bias"]),
    }


@pytest.mark.parametrize("ending", [".default.weight", ""])
def test_lora_plus_multiplies_the_learning_rate_of_the_b_matrices_in_each_group(ending: str) -> None:
    held = parameters(f"lora_A{ending}", f"lora_B{ending}")
    assert groups_of(optimization(learning_rate=1e-3, lora_plus_ratio=16, groups=[DEEP]), held) == {
        "": (1e-3, 0.01, [f"0.attn1.to_k.lora_A{ending}"]),
        "lora_B": (pytest.approx(1.6e-2), 0.01, [f"0.attn1.to_k.lora_B{ending}"]),
        "deep": (1e-4, 0.0, [f"1.attn1.to_k.lora_A{ending}"]),
        "deep/lora_B": (pytest.approx(1.6e-3), 0.0, [f"1.attn1.to_k.lora_B{ending}"]),
    }


def test_lora_plus_without_b_matrices_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimization\.lora_plus_ratio: applies to no matrix"):
        parameter_groups(optimization(lora_plus_ratio=16), WHOLE)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_learning_rates_are_known_by_name_also_if_an_optimizer_divides_the_groups(kind: str) -> None:
    table = optimization(optimizer_type=kind, learning_rate=1e-3, groups=[{**DEEP, "blocks": "0"}, {**BIASES, "learning_rate": 1e-5}])
    optimizer = optimizer_of(table, WHOLE)
    indices = indices_of(optimizer, parameter_groups(table, WHOLE))
    assert rates_of(optimizer, indices) == {"": 1e-3, "deep": 1e-4, "group_2": 1e-5}
    decays = {name: optimizer.param_groups[index]["weight_decay"] for name, index in indices.items()}
    assert decays == {"": 0.01, "deep": 0.0, "group_2": 0.0}


@pytest.mark.parametrize("keys", [{"lora_plus_ratio": 16}, {"groups": [{**DEEP, "learning_rate": 2.0}]}])
def test_learning_rates_that_an_optimizer_does_not_take_are_refused_before_the_run(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        try_optimizer(optimization(optimizer_type="prodigyopt:Prodigy", **keys))
    assert str(error.value).startswith(
        'optimization.optimizer_type: the optimizer "prodigyopt:Prodigy" cannot take a step with the learning rates 1, '
    )
    try_optimizer(optimization(optimizer_type="prodigyopt:Prodigy", groups=[BIASES]))
