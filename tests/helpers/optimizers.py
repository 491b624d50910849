"""`[optimization]` as a run file has it, with the optimizer that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ltxcore.config.run_file import OptimizationTable
from ltxcore.config.structure import structurer_of
from ltxcore.engines.optim import optimizer_of
from ltxcore.engines.schedules import schedule_of
from ltxcore.registry import load


def optimization(**keys: Any) -> OptimizationTable:
    """The table with these keys, read as that of a run file."""
    structurer = structurer_of(load(), Path())
    table: OptimizationTable = structurer.converter.structure(keys, OptimizationTable)
    assert structurer.reading.mistakes == []
    return table


def adamw(parameters: Sequence[Parameter], **keys: Any) -> Optimizer:
    """AdamW over parameters, with these keys of `[optimization]`."""
    return optimizer_of(optimization(**keys), {str(number): parameter for number, parameter in enumerate(parameters)})


def schedule(optimizer: Optimizer, kind: str, params: Mapping[str, Any], steps: int, **keys: Any) -> LRScheduler:
    """A schedule over so many steps."""
    return schedule_of(optimization(scheduler_type=kind, scheduler_params=dict(params), steps=steps, **keys), optimizer)
