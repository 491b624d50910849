"""The optimizer of a run.

Besides the state of each parameter, an optimizer may keep values in its parameter groups, such as an estimated step size; these values are
saved and restored too.

While nothing is trained, the optimizer's state can be moved to host memory, which makes room on the device.

Gradients are checked for finite values all at once: each check waits for the device, and a model has thousands of tensors.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from ltxcore.devices import is_gpu
from ltxcore.engines.groups import all_groups, parameter_groups
from ltxcore.errors import ConfigError, PluginError, listed, reason_of
from ltxcore.protocols import ParameterGroup

if TYPE_CHECKING:
    from ltxcore.config.run_file import OptimizationTable


def optimizer_of(table: OptimizationTable, parameters: Mapping[str, Parameter]) -> Optimizer:
    """Return the optimizer that `[optimization]` asks for, over `parameters` and ready to train.

    Raises:
        ConfigError: a package that the optimizer needs is not installed, or the optimizer does not accept its parameters.
        PluginError: the plugin does not return an optimizer.
    """
    return _built(table, parameter_groups(table, parameters))


def _built(table: OptimizationTable, groups: Sequence[ParameterGroup]) -> Optimizer:
    try:
        made: object = table.optimizer.build(groups)
    except ImportError as error:
        raise ConfigError(
            f'the optimizer "{table.optimizer_type}" needs a package that cannot be imported: {error}',
            where="optimization.optimizer_type",
            remedy="Install the package, or use another optimizer.",
        ) from error
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ConfigError(
            f'the optimizer "{table.optimizer_type}" does not take these parameters: {error}',
            where="optimization.optimizer_params",
            remedy=f"See `ltx plugins show {table.optimizer_type}`.",
        ) from error
    if not isinstance(made, Optimizer):
        what = f'the optimizer "{table.optimizer_type}" builds {type(made).__name__}, which is not a subclass of torch.optim.Optimizer'
        raise PluginError(what, where="optimization.optimizer_type", remedy="Report this to the plugin's author.")
    if has_modes(made):
        cast(Any, made).train()
    return made


def try_optimizer(table: OptimizationTable, averages: bool = False) -> None:
    """Refuse, before a run, parameters and groups that the optimizer does not accept.

    If the run file has none, nothing is tried, since trying imports the optimizer.

    Args:
        table: `[optimization]`.
        averages: whether the run keeps a moving average of the weights; if it does, optimizers that average the weights themselves are
            refused.

    Raises:
        ConfigError: as in `optimizer_of`, or the optimizer averages the weights itself.
    """
    try:
        is_default = table.optimizer == type(table.optimizer)()
    except TypeError:  # some types have no default
        is_default = False
    of_package = ":" in table.optimizer_type  # such an optimizer comes from a package that knows nothing of ltx
    groups = list(all_groups(table))
    shares = getattr(table.optimizer, "shares_learning_rate", False)  # unsuitable groups are refused for this reason elsewhere
    steps = of_package or (len(groups) > 1 and not shares)
    lacks = any(importlib.util.find_spec(name) is None for name in getattr(table.optimizer, "needs", {}))
    if lacks or (is_default and not steps and not averages):
        return
    weights = [Parameter(torch.zeros(2, 2)) for _ in groups]
    named = zip(groups, weights, strict=True)
    made = _built(table, [attrs.evolve(group, parameters={f"{group.name}.weight": weight}) for group, weight in named])
    if averages and has_modes(made):
        raise ConfigError(
            f'the optimizer "{table.optimizer_type}" averages the weights itself',
            where="ema.decay",
            remedy="Remove the key, or use another optimizer.",
        )
    if not steps:
        return
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    try:
        made.step()
    except Exception as error:
        raise ConfigError(
            f'the optimizer "{table.optimizer_type}" cannot take a step{_with_rates(groups)}: {reason_of(error)}',
            where="optimization.optimizer_type",
            remedy="Name one whose step() needs no closure and takes dense gradients"
            + (", or remove the separate learning rates of modules." if len(groups) > 1 else "."),
        ) from error


def _with_rates(groups: Sequence[ParameterGroup]) -> str:
    rates = {group.learning_rate for group in groups}
    return f" with the learning rates {listed(f'{rate:g}' for rate in sorted(rates))}" if len(rates) > 1 else ""


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer trains on weights that differ from those to keep, and switches between them with `train()` and `eval()`."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


@contextmanager
def weights_to_keep(optimizer: Optimizer, parameters: Iterable[Parameter]) -> Iterator[None]:
    """Return a context in which the parameters hold the weights to keep.

    At the end of the context, the parameters again hold the weights to train on, bit for bit, which switching back and forth would not
    achieve.
    """
    if not has_modes(optimizer):
        yield
        return
    modes: Any = optimizer
    before = [(parameter, in_host_memory(parameter.detach())) for parameter in parameters]
    modes.eval()
    try:
        yield
    finally:
        modes.train()
        with torch.no_grad():
            for parameter, weight in before:
                parameter.copy_(weight)


GROUP = "group/"
"""The prefix of keys for tensors from parameter groups in a saved state; the group's number and the tensor's name follow."""

_OF_THE_SCHEDULE = {"params", "lr", "initial_lr"}

Built = list[dict[str, Any]]
"""The plain values of each group of an optimizer before its first step."""


def built(optimizer: Optimizer) -> Built:
    """Return the values of a new optimizer's groups, for comparison in `moved`."""
    return [
        {name: value for name, value in group.items() if name not in _OF_THE_SCHEDULE and _is_plain(value)}
        for group in optimizer.param_groups
    ]


def moved(optimizer: Optimizer, before: Built) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the group values that differ from `before`, the values before the first step, as tensors by key and as plain values for JSON.

    The optimizer's settings from the run file are left out, so that a run can resume with other settings. Learning rates are left out too,
    since the schedule sets them.
    """
    tensors: dict[str, Tensor] = {}
    values: list[dict[str, Any]] = []
    for number, (group, then) in enumerate(zip(optimizer.param_groups, before, strict=True)):
        values.append({})
        for name, value in group.items():
            if name in _OF_THE_SCHEDULE:
                continue
            if isinstance(value, Tensor):
                tensors[f"{GROUP}{number}/{name}"] = value.detach().clone()
            elif _is_plain(value) and not (name in then and value == then[name]):
                values[-1][name] = value
    return tensors, values


def put_back(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: list[dict[str, Any]]) -> None:
    """Put what `moved` returned into the groups of a newly built optimizer."""
    numbers = range(len(optimizer.param_groups))
    if len(values) != len(numbers):  # the run file had other groups; the values of the first group suit all
        values = [values[0] for _ in numbers] if values else []
        first = {key: tensor for key, tensor in tensors.items() if key.startswith(f"{GROUP}0/")}
        tensors = {key.replace(f"{GROUP}0/", f"{GROUP}{number}/"): tensor for number in numbers for key, tensor in first.items()}
    for group, saved in zip(optimizer.param_groups, values, strict=False):
        group.update({name: tuple(value) if isinstance(group.get(name), tuple) else value for name, value in saved.items()})
    for key, tensor in tensors.items():
        if key.startswith(GROUP):
            number, _, name = key.removeprefix(GROUP).partition("/")
            group = optimizer.param_groups[int(number)]
            there = group.get(name)
            group[name] = tensor.to(there.device if isinstance(there, Tensor) else tensor.device, copy=True)


def _is_plain(value: Any) -> bool:
    """Return whether JSON can hold a value: a number, a string, None, or a collection of them."""
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


Place = tuple[dict[Any, Any], str]
"""The place of a state tensor: a parameter's state, and the tensor's name in it."""


@contextmanager
def state_in_host_memory(optimizer: Optimizer) -> Iterator[None]:
    """Return a context in which the tensors of an optimizer's state are in host memory. At the end of the context, the tensors return to
    where they were, bit for bit.

    A tensor that several parameters share, such as the tables of an 8-bit optimizer, moves once and is still shared afterwards. Tensors
    that are already on the CPU stay there.
    """
    moved: list[tuple[list[Place], torch.device]] = []
    try:
        for places in _shared(optimizer):
            device = _at(places).device
            if device.type != "cpu":
                _put(places, in_host_memory(_at(places)))
                moved.append((places, device))
        yield
    finally:
        for places, device in moved:
            _put(places, _at(places).to(device))


def in_host_memory(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor on the CPU.

    The copy of a tensor on a GPU is pinned, since copying to and from pageable memory takes several times as long.
    """
    host = torch.empty_like(tensor, device="cpu", pin_memory=is_gpu(tensor.device))
    return host.copy_(tensor)


def _shared(optimizer: Optimizer) -> list[list[Place]]:
    """Find all places where each tensor of the state is used. Only places are returned, since keeping a tensor would keep its memory."""
    found: dict[int, list[Place]] = {}
    for state in optimizer.state.values():
        for kind, value in state.items():
            if isinstance(value, torch.Tensor):
                found.setdefault(id(value), []).append((state, kind))
    return list(found.values())


def _at(places: list[Place]) -> Tensor:
    state, kind = places[0]
    found: Tensor = state[kind]
    return found


def _put(places: list[Place], tensor: Tensor) -> None:
    for state, kind in places:
        state[kind] = tensor


def are_finite(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return whether all values of some tensors are finite, without waiting for their device."""
    some = [tensor for tensor in tensors.values() if tensor.numel()]
    return torch.isfinite(get_total_norm(some, math.inf)) if some else torch.tensor(True)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors with NaN or infinite values, in order. Tensors are checked one by one only if any of them has such
    values.
    """
    if not tensors or bool(are_finite(tensors)):
        return []
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
