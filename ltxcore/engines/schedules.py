"""The learning-rate schedules of a run: they may begin after a warm-up, and may scale groups with separate learning rates."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ltxcore.errors import ConfigError

if TYPE_CHECKING:
    from ltxcore.config.run_file import OptimizationTable


ROUNDING = 1e-12
"""The largest amount below 0 to which rounding may put a learning rate that should be 0."""

TRIED = 500
"""The number of steps for which a schedule is tried before a run; trying all steps of a long run would take seconds."""


def schedule_of(table: OptimizationTable, optimizer: Optimizer) -> LRScheduler:
    """Return the learning-rate schedule that `[optimization]` asks for, including its warm-up.

    The schedule is stepped once per optimizer step, whatever the accumulation and the number of processes.

    Raises:
        ConfigError: the schedule does not accept its parameters.
    """
    alike = len({float(group["lr"]) for group in optimizer.param_groups}) == 1
    one = optimizer if alike else _Rates(table.learning_rate)
    try:
        made: LRScheduler = table.schedule.build(one, table.steps - table.warmup)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _refused(table, str(error)) from error
    each = made if alike else InProportion(made, optimizer, table.learning_rate)
    return WarmedUp(each, table.warmup) if table.warmup else each


class InProportion(LRScheduler):
    """A schedule for groups with different learning rates, which multiplies all of them by the same factor.

    The factor is what another schedule makes of a single learning rate, relative to its peak. A final learning rate, for example, is thus
    the same share of the peak in all groups.
    """

    def __init__(self, inner: LRScheduler, optimizer: Optimizer, peak: float) -> None:
        self.inner, self.optimizer, self.peak = inner, optimizer, peak
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self._follow()

    def _follow(self) -> None:
        self.last_epoch = self.inner.last_epoch
        factor = float(self.inner.optimizer.param_groups[0]["lr"]) / self.peak
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    def step(self, epoch: int | None = None) -> None:
        """Advance to the next step."""
        with _without_steps():
            self.inner.step()
        self._follow()

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""
        return {"inner": self.inner.state_dict(), "rate": self.inner.optimizer.param_groups[0]["lr"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.inner.load_state_dict(state_dict["inner"])
        self.inner.optimizer.param_groups[0]["lr"] = state_dict["rate"]
        self._follow()


class WarmedUp(LRScheduler):
    """A schedule that begins after `warmup` steps, during which the learning rate grows to the schedule's first value."""

    def __init__(self, inner: LRScheduler, warmup: int) -> None:
        self.inner, self.warmup, self.optimizer = inner, warmup, inner.optimizer
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.last_epoch = 0
        self._grow()

    def _grow(self) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * min(1.0, (self.last_epoch + 1) / (self.warmup + 1))

    def step(self, epoch: int | None = None) -> None:
        """Advance to the next step."""
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
        """Continue from what `state_dict` returned, and restore the groups' learning rates."""
        self.last_epoch = state_dict["last_epoch"]
        self.inner.load_state_dict(state_dict["inner"])


class _Rates(Optimizer):
    """An optimizer that only holds learning rates for a schedule to set, and updates nothing. Importing a real optimizer takes a second."""

    def __init__(self, learning_rate: float) -> None:
        self.defaults = {"lr": learning_rate}
        self.param_groups = [{"params": [], "lr": learning_rate}]
        self.state = defaultdict(dict)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing, since there are no weights to update."""


def try_schedule(table: OptimizationTable) -> None:
    """Refuse a schedule if its learning rate is not a number, or is below 0, near the beginning or at the end of a run. Nothing is trained.

    Raises:
        ConfigError: as in `schedule_of`, or the learning rate is wrong; the error names the step.
    """
    steps = table.steps - table.warmup
    made = schedule_of(attrs.evolve(table, steps=steps, warmup_steps=0), _Rates(table.learning_rate))
    _check_rates(made, table, range(1, min(steps, TRIED) + 1))
    if steps > TRIED and hasattr(made, "_get_closed_form_lr"):  # schedules without a closed form show their faults in the first steps
        made.last_epoch = steps
        _check(table, steps, made._get_closed_form_lr)


def _check_rates(made: LRScheduler, table: OptimizationTable, numbers: Iterable[int]) -> None:
    with _without_steps():
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
        remedy=f"See `ltx plugins show {table.scheduler_type}`; the run has {table.steps} step{'s' * (table.steps != 1)}.",
    )


def advance(scheduler: LRScheduler, steps: int) -> None:
    """Advance a schedule by `steps` optimizer steps, one at a time."""
    with _without_steps():  # an earlier process made these optimizer steps
        for _ in range(steps):
            scheduler.step()


@contextmanager
def _without_steps() -> Iterator[None]:
    """Return a context in which torch does not warn about schedules that step without their optimizer."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        yield
