"""The tracker "console", which shows the progress of a run: step, loss, learning rate, time left."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import hookimpl
from ltxcore.api.commands import Bar

LOGGER = logging.getLogger("ltx.console")

SMOOTHING = 0.95
"""The share of the displayed loss that comes from earlier steps. The loss of a single step depends more on its sigmas
than on what was learned.
"""


@attrs.define
class Console:
    """Show a progress bar or, if the output is not a terminal, a line every `every` steps."""

    every: int = attrs.field(default=20, metadata={"help": "steps between lines if the output is not a terminal", "unit": "steps"})
    _bar: Bar | None = attrs.field(default=None, init=False, repr=False)
    _loss: float | None = attrs.field(default=None, init=False, repr=False)
    _total: int = attrs.field(default=0, init=False, repr=False)
    _seconds: float = attrs.field(default=0.0, init=False, repr=False)

    @every.validator
    def _check_every(self, _: Any, value: int) -> None:
        if value < 1:
            raise ValueError(f"every is {value}; it must be at least 1")

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        self._total = total_steps
        self._bar = Bar.begun("Training", total_steps, first_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "loss" not in metrics or not self._total:
            return
        loss = metrics["loss"]
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        seconds = metrics["step_seconds"]
        self._seconds = seconds if not self._seconds else SMOOTHING * self._seconds + (1 - SMOOTHING) * seconds
        numbers = f"loss {self._loss:.4f}  lr {metrics['learning_rate']:.2e}  {self._seconds:.3f} s/step"
        if self._bar is not None:
            self._bar.show(step, numbers)
        elif step % self.every == 0 or step == self._total:
            left = (self._total - step) * self._seconds
            LOGGER.info(f"step {step}/{self._total}  {numbers}  {left:.0f} s left")

    def sample(self, step: int, name: str, path: Path) -> None:
        """Do nothing, since the run itself prints at its end where its samples are."""

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.end()
            self._bar = None


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"console": Console}
