"""Combine Muon and AdamW in one optimizer. This module imports torch, so it is imported only when Muon is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import AdamW, Optimizer

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.muon import is_matrix

if TYPE_CHECKING:
    from ltxplugins.optimizers.muon import Muon


KEYS = ("ns_steps", "betas")
"""For each of the two optimizers, a key that only its own groups have."""


class Together(Optimizer):
    """Several optimizers that step one after the other. This optimizer holds their groups and states."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = tuple(parts)
        self.keys = tuple(next(key for key in KEYS if key in part.param_groups[0]) for part in parts)
        for part in parts:
            part.state = self.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        # The caller may replace the groups for a step, for example by a group with a single weight.
        for part, key in zip(self.parts, self.keys, strict=True):
            part.param_groups = [group for group in self.param_groups if key in group]
            part.step()


def muon_and_adamw(groups: Sequence[ParameterGroup], asked: Muon) -> Optimizer:
    """Return one optimizer that uses Muon for the matrices in these groups, and AdamW for all other weights."""
    matrices, rest = [], []
    for group in groups:
        found = {name for name, parameter in group.parameters.items() if is_matrix(name, tuple(parameter.shape))}
        matrices += [group.torch_group(found)] if found else []
        others = group.parameters.keys() - found
        rest += [group.torch_group(others)] if others else []
    parts: list[Optimizer] = []
    if matrices:
        parts.append(
            torch.optim.Muon(
                matrices, momentum=asked.momentum, nesterov=asked.nesterov, ns_steps=asked.ns_steps, adjust_lr_fn=asked.adjust_lr
            )
        )
    if rest:
        parts.append(AdamW(rest, betas=asked.betas, eps=asked.eps, fused=True))
    return Together(parts)
