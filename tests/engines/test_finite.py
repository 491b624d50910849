"""Gradients that are not finite are found by name; and where all are finite, that takes one question."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ltxcore.engines.finite import not_finite


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
