"""The optimizer of a run and the learning-rate schedules.

Besides the state of each parameter, an optimizer may keep values in its parameter groups, such as a step size that it
estimates; these are saved and restored too.

While nothing is trained, the optimizer's state can be moved to host memory, which makes room on the device.

Whether gradients are finite is asked of the device once for all of them: each such question waits for the device, and a
model has thousands of tensors.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ltxcore.devices import is_gpu
from ltxcore.errors import ConfigError, PluginError
from ltxcore.protocols import ParameterGroup

if TYPE_CHECKING:
    from ltxcore.config.run_file import OptimizationTable


ROUNDING = 1e-12
"""How far below 0 rounding may put a learning rate that should be 0."""

TRIED = 500
"""The number of steps that a schedule is tried for before a run; trying all steps of a long run would take seconds."""


def schedule_of(table: OptimizationTable, optimizer: Optimizer) -> LRScheduler:
    """Return the learning-rate schedule that `[optimization]` asks for, after its warm-up.

    It is stepped once per optimizer step, whatever the accumulation and the number of processes.

    Raises:
        ConfigError: the schedule does not accept its parameters.
    """
    try:
        made: LRScheduler = table.schedule.build(optimizer, table.steps - table.warmup)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _refused(table, str(error)) from error
    return WarmedUp(made, table.warmup) if table.warmup else made


class WarmedUp(LRScheduler):
    """A schedule that begins after `warmup` steps, over which the learning rate grows to the schedule's first value."""

    def __init__(self, inner: LRScheduler, warmup: int) -> None:
        self.inner, self.warmup, self.optimizer = inner, warmup, inner.optimizer
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.last_epoch = 0
        self._grow()

    def _grow(self) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * min(1.0, (self.last_epoch + 1) / (self.warmup + 1))

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next step."""
        self.last_epoch += 1
        if self.last_epoch > self.warmup:
            self.inner.step()
        else:
            self._grow()

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""
        return {"last_epoch": self.last_epoch, "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned; this also restores the learning rates of the groups."""
        self.last_epoch = state_dict["last_epoch"]
        self.inner.load_state_dict(state_dict["inner"])


class _Rates(Optimizer):
    """An optimizer that only holds learning rates for a schedule to set and updates nothing: a real optimizer takes a second to import."""

    def __init__(self, learning_rate: float) -> None:
        self.defaults = {"lr": learning_rate}
        self.param_groups = [{"params": [], "lr": learning_rate}]
        self.state = defaultdict(dict)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing, since there are no weights to update."""


def try_schedule(table: OptimizationTable) -> None:
    """Refuse a schedule whose learning rate is not a number, or is below 0, near the beginning or at the end of a run.
    Nothing is trained.

    Raises:
        ConfigError: as `schedule_of`, or the learning rate is wrong; the error names the step.
    """
    steps = table.steps - table.warmup
    made = schedule_of(attrs.evolve(table, steps=steps, warmup_steps=0), _Rates(table.learning_rate))
    _check_rates(made, table, range(1, min(steps, TRIED) + 1))
    if steps > TRIED and hasattr(made, "_get_closed_form_lr"):  # the other learning rates already show what they are in the first steps
        made.last_epoch = steps
        _check(table, steps, made._get_closed_form_lr)


def _check_rates(made: LRScheduler, table: OptimizationTable, numbers: Iterable[int]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected call of `lr_scheduler.step"
        )  # torch warns that no optimizer step came before; there are none here
        for number in numbers:

            def step() -> list[float]:
                made.step()
                return [float(rate) for rate in made.get_last_lr()]

            _check(table, number, step)


def _check(table: OptimizationTable, number: int, rates: Callable[[], Iterable[Any]]) -> None:
    try:
        wrong = next((rate for rate in map(complex, rates()) if rate.imag or not -ROUNDING <= rate.real < float("inf")), None)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _refused(table, f"at step {number}: {error}") from error
    if wrong is not None:
        shown = f"{wrong.real:g}" if not wrong.imag else "no number"
        raise _refused(table, f"the learning rate after step {number} would be {shown}")


def _refused(table: OptimizationTable, why: str) -> ConfigError:
    return ConfigError(
        f'the schedule "{table.scheduler_type}" does not take these parameters: {why}',
        where="optimization.scheduler_params",
        remedy=f"See `ltx plugins show {table.scheduler_type}`; the run has {table.steps} steps.",
    )


def advance(scheduler: LRScheduler, steps: int) -> None:
    """Advance a schedule by so many optimizer steps, one step at a time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # an earlier process made the optimizer steps
        for _ in range(steps):
            scheduler.step()


def optimizer_of(table: OptimizationTable, parameters: Mapping[str, Parameter]) -> Optimizer:
    """Return the optimizer that `[optimization]` asks for, over `parameters`, ready to train.

    Raises:
        ConfigError: a package that it needs is not installed, or it does not accept its parameters.
        PluginError: what the plugin returns is not an optimizer.
    """
    try:
        made: object = table.optimizer.build([ParameterGroup(parameters, table.learning_rate, table.weight_decay)])
    except ImportError as error:
        raise ConfigError(
            f'the optimizer "{table.optimizer_type}" needs a package that cannot be imported: {error}',
            where="optimization.optimizer_type",
            remedy="Install it, or use another.",
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
    """Refuse, before a run, optimizer parameters that the optimizer does not accept. If the run file sets none, nothing
    is tried, since that would import the optimizer.

    Args:
        table: `[optimization]`.
        averages: whether the run keeps a moving average of the weights, which an optimizer that averages them itself does not
            go with.

    Raises:
        ConfigError: as `optimizer_of`, or the optimizer averages the weights itself.
    """
    try:
        is_default = table.optimizer == type(table.optimizer)()
    except TypeError:  # some types have no default
        is_default = False
    of_package = ":" in table.optimizer_type  # of one that knows nothing of ltx
    if (is_default and not of_package and not averages) or any(
        importlib.util.find_spec(name) is None for name in getattr(table.optimizer, "needs", {})
    ):
        return
    weight = Parameter(torch.zeros(2, 2))
    made = optimizer_of(table, {"module.weight": weight})
    if averages and has_modes(made):
        raise ConfigError(
            f'the optimizer "{table.optimizer_type}" averages the weights itself',
            where="ema.decay",
            remedy="Remove it, or use another optimizer.",
        )
    if of_package:
        weight.grad = torch.ones_like(weight)
        try:
            made.step()
        except Exception as error:
            raise ConfigError(
                f'the optimizer "{table.optimizer_type}" cannot take a step: {type(error).__name__}: {error}',
                where="optimization.optimizer_type",
                remedy="Name one whose step() needs no closure and takes dense gradients.",
            ) from error


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer trains on other weights than those to keep; its `train()` and `eval()` switch between them."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


@contextmanager
def weights_to_keep(optimizer: Optimizer, parameters: Iterable[Parameter]) -> Iterator[None]:
    """Return a context in which the parameters hold the weights to keep; at its end they get back the weights to train
    on, bit for bit, which switching back and forth would not give.
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
"""The prefix of the keys of tensors in parameter groups in a saved state; the group's number and the tensor's name follow."""

_OF_THE_SCHEDULE = {"params", "lr", "initial_lr"}

Built = list[dict[str, Any]]
"""The plain values of each group of an optimizer before its first step."""


def built(optimizer: Optimizer) -> Built:
    """Return the values of a new optimizer's groups, for `moved` to compare with."""
    return [
        {name: value for name, value in group.items() if name not in _OF_THE_SCHEDULE and _is_plain(value)}
        for group in optimizer.param_groups
    ]


def moved(optimizer: Optimizer, before: Built) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return all group values that differ from those `before` the first step: tensors by key, and plain values for
    JSON.

    The optimizer's settings from the run file are left out, so that a run can resume with other settings; so are
    learning rates, which the schedule sets.
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
"""The location of a state tensor: the parameter's state, and the tensor's name in it."""


@contextmanager
def state_in_host_memory(optimizer: Optimizer) -> Iterator[None]:
    """Return a context in which the tensors of an optimizer's state are in host memory; at its end they return to where
    they were, bit for bit.

    A tensor that several parameters share, such as the tables of an 8-bit optimizer, moves once and is still shared
    afterwards. Tensors that are on the CPU already stay as they are.
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
    """Return a copy on the CPU; it is pinned if it comes from a GPU, since copying to and from pageable memory takes
    several times as long.
    """
    host = torch.empty_like(tensor, device="cpu", pin_memory=is_gpu(tensor.device))
    return host.copy_(tensor)


def _shared(optimizer: Optimizer) -> list[list[Place]]:
    """Find every place where each tensor of the state is used. Only places are kept: keeping a tensor would keep its memory."""
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


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors with NaN or infinite values, in order. Tensors are examined one by one only if
    any of them has such values.
    """
    some = [tensor for tensor in tensors.values() if tensor.numel()]
    if not some or bool(torch.isfinite(get_total_norm(some, math.inf))):
        return []
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
