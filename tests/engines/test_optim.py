"""AdamW against its definition, and the search for values that are not finite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.optimizers import adamw
from ltxcore.engines.optim import not_finite


def test_adamw_is_adam_with_decay_apart_from_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = Parameter(torch.randn(5, generator=generator))
    expected, mean, square = parameter.detach().clone().double(), torch.zeros(5).double(), torch.zeros(5).double()
    optimizer = adamw([parameter], learning_rate=0.01, betas=[0.8, 0.95], weight_decay=0.1)
    for step in range(1, 6):
        gradient = torch.randn(5, generator=generator)
        parameter.grad = gradient.clone()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-6)


class Questions(TorchDispatchMode):
    """Counts how often a value is asked of a tensor: on a GPU, each time the program waits."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def gradients(count: int) -> dict[str, torch.Tensor]:
    return {f"layer{number}": torch.full((3, number + 1), 1e30) for number in range(count)} | {"none of it here": torch.empty(0)}


@pytest.mark.parametrize("count", [1, 192])
def test_any_number_of_finite_gradients_takes_one_question(count: int) -> None:
    with Questions() as asked:
        assert not_finite(gradients(count)) == []
    assert asked.count == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_those_that_are_not_finite_are_named_in_order(value: float, dtype: torch.dtype) -> None:
    found = gradients(5)
    for name in ("layer3", "layer1"):
        found[name] = found[name].to(dtype)
        found[name][1, 0] = value
    assert not_finite(found) == ["layer1", "layer3"]


def test_nothing_is_finite_and_asks_nothing() -> None:
    with Questions() as asked:
        assert not_finite({}) == []
    assert asked.count == 0
