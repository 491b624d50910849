"""The steps of an optimizer, imported when it is built."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class Waiting(Optimizer):
    """Keeps a mean of each weight's gradient, and in its groups how many steps it has done."""

    def __init__(self, groups: list[dict[str, Any]], wait: int) -> None:
        super().__init__(groups, {"wait": wait, "done": 0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["done"] += 1
            rate = group["lr"] * min(1, group["done"] / group["wait"])
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 0.5)
                parameter.mul_(1 - rate * group["weight_decay"]).sub_(mean, alpha=rate)
