"""What an optimiser keeps of itself in its parameter groups, beside its state of each parameter: a step size that it estimates, for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from torch.optim import Optimizer

GROUP = "group/"
"""What the keys of tensors in groups begin with, in a saved state; after it the group's number and the tensor's name."""

_OF_THE_SCHEDULE = {"params", "lr", "initial_lr"}

_ABSENT = object()


def moved(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """All values of each group that are no longer what the optimiser was built with: tensors by key, and what goes into JSON.

    What a run file says of an optimiser is not among them, so that a run can go on with another. Nor are learning rates, which the schedule sets.
    """
    tensors: dict[str, Tensor] = {}
    values: list[dict[str, Any]] = []
    for number, group in enumerate(optimizer.param_groups):
        values.append({})
        for name, value in group.items():
            if name in _OF_THE_SCHEDULE:
                continue
            if isinstance(value, Tensor):
                tensors[f"{GROUP}{number}/{name}"] = value.detach().clone()
            elif _is_plain(value) and not _is_same(value, optimizer.defaults.get(name, _ABSENT)):
                values[-1][name] = value
    return tensors, values


def put_back(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: list[dict[str, Any]]) -> None:
    """What `moved` gave, into the groups of an optimiser that was built anew."""
    for group, saved in zip(optimizer.param_groups, values, strict=False):
        group.update({name: tuple(value) if isinstance(group.get(name), tuple) else value for name, value in saved.items()})
    for key, tensor in tensors.items():
        if key.startswith(GROUP):
            number, _, name = key.removeprefix(GROUP).partition("/")
            group = optimizer.param_groups[int(number)]
            there = group.get(name)
            group[name] = tensor.to(there.device if isinstance(there, Tensor) else tensor.device, copy=True)


def _is_plain(value: Any) -> bool:
    """Whether JSON has it: a number, a word, nothing, or several of them."""
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def _is_same(value: Any, before: Any) -> bool:
    return before is not _ABSENT and not isinstance(before, Tensor) and bool(value == before)
