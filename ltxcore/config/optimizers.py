"""Apply the optimizer to the other keys of `[optimization]`: it sets their defaults and excludes some of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltxcore.config.parts import evolved
from ltxcore.config.reading import Reading, Unreadable
from ltxcore.config.run_file import OptimizationTable

CONSTANT = "constant"


def fitted(table: OptimizationTable, said: Mapping[str, Any], reading: Reading) -> OptimizationTable:
    """Return the table, with the optimizer's defaults for keys that the run file (`said`) does not set. Values that cannot be
    combined with the optimizer are noted as mistakes.
    """
    try:
        optimizer, kind = table.optimizer, table.optimizer_type
    except Unreadable:
        return table
    changes: dict[str, Any] = {"betas": None}  # they are among the optimizer's own parameters by now
    if "learning_rate" not in said and hasattr(optimizer, "learning_rate"):
        changes["learning_rate"] = float(optimizer.learning_rate)
    if not getattr(optimizer, "decays_weights", True):
        changes["weight_decay"] = 0.0
        if said.get("weight_decay"):
            reading.note(f'the optimizer "{kind}" has no weight decay', "Set the value to 0, or remove the key.", below=("weight_decay",))
    if getattr(optimizer, "schedules_itself", False):
        changes["scheduler_type"] = CONSTANT
        for key in ("scheduler_type", "scheduler_params", "warmup_steps"):
            if said.get(key) not in (None, CONSTANT, {}, 0):
                reading.note(
                    f'cannot be combined with the optimizer "{kind}", which needs a constant learning rate', "Remove it.", below=(key,)
                )
    return evolved(table, **changes)
