"""Take the steps of Lion. This module imports torch, so it is imported only when Lion is built."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class LionOptimizer(Optimizer):
    """The Lion optimizer, which updates one weight at a time.

    Source: arXiv 2302.06675, algorithm 2.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rate, (now, later) = group["lr"], group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                mean, gradient = state["exp_avg"], parameter.grad
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(torch.lerp(gradient, mean, now).sign_(), alpha=-rate)
                mean.lerp_(gradient, 1 - later)
