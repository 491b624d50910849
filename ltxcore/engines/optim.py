"""The optimizer of a run and the learning-rate schedules.

What an optimizer keeps of itself in its parameter groups, besides its state of each parameter: a step size that it estimates, for one.

Room on the device for as long as nothing is trained: the optimizer's state in host memory.

Whether gradients are finite, asked of the device once: it is waited for each time that it is asked, and a model has thousands of them.
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
"""How far below 0 a learning rate of 0 may come out."""

TRIED = 500
"""Steps that a schedule is tried for before a run; all of them would take seconds for a long one."""


def schedule_of(table: OptimizationTable, optimizer: Optimizer) -> LRScheduler:
    """Return the learning-rate schedule that `[optimization]` asks for, after its warm-up.

    It is stepped once an optimizer step, whatever the accumulation and the number of processes.

    Raises:
        ConfigError: it does not take its parameters.
    """
    try:
        made: LRScheduler = table.schedule.build(optimizer, table.steps - table.warmup)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _refused(table, str(error)) from error
    return WarmedUp(made, table.warmup) if table.warmup else made


class WarmedUp(LRScheduler):
    """A schedule that begins after `warmup` steps, over which the learning rate grows to its first."""

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
        """Return the learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"last_epoch": self.last_epoch, "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the learning rates of the groups are put back as well."""
        self.last_epoch = state_dict["last_epoch"]
        self.inner.load_state_dict(state_dict["inner"])


class _Rates(Optimizer):
    """A learning rate for a schedule to set, and nothing that is updated: an optimizer takes a second to import all that it may need."""

    def __init__(self, learning_rate: float) -> None:
        self.defaults = {"lr": learning_rate}
        self.param_groups = [{"params": [], "lr": learning_rate}]
        self.state = defaultdict(dict)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """There is nothing to update."""


def try_schedule(table: OptimizationTable) -> None:
    """Refuse a schedule whose learning rate is not a number, or below 0, at the beginning of a run or at its end. Nothing is trained.

    Raises:
        ConfigError: as `schedule_of`, or with the step.
    """
    steps = table.steps - table.warmup
    made = schedule_of(attrs.evolve(table, steps=steps, warmup_steps=0), _Rates(table.learning_rate))
    _check_rates(made, table, range(1, min(steps, TRIED) + 1))
    if steps > TRIED and hasattr(made, "_get_closed_form_lr"):  # the others are what they are from the first steps on
        made.last_epoch = steps
        _check(table, steps, made._get_closed_form_lr)


def _check_rates(made: LRScheduler, table: OptimizationTable, numbers: Iterable[int]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected call of `lr_scheduler.step"
        )  # before any of the optimizer's, of which there are none
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
    """Take a schedule to where it is after so many optimizer steps, by taking them."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Detected call of `lr_scheduler.step"
        )  # there was an optimizer step for each, in another process
        for _ in range(steps):
            scheduler.step()


def optimizer_of(table: OptimizationTable, parameters: Mapping[str, Parameter]) -> Optimizer:
    """The optimizer that `[optimization]` asks for, over `parameters`, ready to train.

    Raises:
        ConfigError: a package that it needs is not installed, or it does not take its parameters.
        PluginError: it is none.
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


def try_optimizer(table: OptimizationTable) -> None:
    """Refuse, before a run, parameters of an optimizer that it does not take. Those that nobody wrote are not tried: that would import it.

    Raises:
        ConfigError: as `optimizer_of`.
    """
    try:
        is_default = table.optimizer == type(table.optimizer)()
    except TypeError:  # some have no default
        is_default = False
    of_package = ":" in table.optimizer_type  # of one that knows nothing of ltx
    if (is_default and not of_package) or any(importlib.util.find_spec(name) is None for name in getattr(table.optimizer, "needs", {})):
        return
    weight = Parameter(torch.zeros(2, 2))
    made = optimizer_of(table, {"module.weight": weight})
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
    """Whether an optimizer's weights in training are not those to keep: `train()` and `eval()` switch them."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


@contextmanager
def weights_to_keep(optimizer: Optimizer, parameters: Iterable[Parameter]) -> Iterator[None]:
    """Meanwhile the weights are those to keep; afterwards those to train on, with the same bits, which switching there and back would not leave."""
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
"""What the keys of tensors in groups begin with, in a saved state; after it the group's number and the tensor's name."""

_OF_THE_SCHEDULE = {"params", "lr", "initial_lr"}

Built = list[dict[str, Any]]
"""The plain values of each group of an optimizer, before its first step."""


def built(optimizer: Optimizer) -> Built:
    """What `moved` compares with."""
    return [
        {name: value for name, value in group.items() if name not in _OF_THE_SCHEDULE and _is_plain(value)}
        for group in optimizer.param_groups
    ]


def moved(optimizer: Optimizer, before: Built) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """All values of each group that are no longer what they were `before` the first step: tensors by key, and what goes into JSON.

    What a run file says of an optimizer is not among them, so that a run can resume with another. Nor are learning rates, which the schedule sets.
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
    """What `moved` gave, into the groups of an optimizer that was built anew."""
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


Place = tuple[dict[Any, Any], str]
"""The state of a parameter, and the name of a tensor in it."""


@contextmanager
def state_in_host_memory(optimizer: Optimizer) -> Iterator[None]:
    """Meanwhile the tensors of an optimizer's state are in host memory, and afterwards where they were, with the same bits.

    One that several parameters share, as the tables of an optimizer of 8 bits are, moves once and is shared afterwards too. What is on the CPU
    already is left alone.
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
    """A copy on the CPU; pinned where it comes from a GPU, since a copy from and to pageable memory takes several times as long."""
    host = torch.empty_like(tensor, device="cpu", pin_memory=is_gpu(tensor.device))
    return host.copy_(tensor)


def _shared(optimizer: Optimizer) -> list[list[Place]]:
    """Where each tensor of the state is. Only places are kept: a tensor that is kept would keep its memory."""
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
    """The names of those with NaN or infinite values, in order. Only where there are any is each of them asked."""
    some = [tensor for tensor in tensors.values() if tensor.numel()]
    if not some or bool(torch.isfinite(get_total_norm(some, math.inf))):
        return []
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
