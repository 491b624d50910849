"""How often the held-out loss is measured in a run, and the table of it at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.table import Table

from ltxcore.train.conditioning_swap import OTHER, OWN
from ltxcore.train.validation_loss import SIGMAS


def held_out_interval(interval: int, total: int) -> int:
    """Steps from one measurement of the held-out loss to the next: whole intervals of validation, and at least a tenth of the run."""
    return interval * max(1, math.ceil(total / (10 * interval)))


def held_out_table(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """The held-out loss at the highest sigma: before training, after it, and with the context of another clip."""
    sigma = f"sigma_{max(SIGMAS):.2f}"
    clips = int(before.get(f"held_out/{OWN}/clips", 0))
    table = Table(title=f"Loss of generated tokens at sigma {max(SIGMAS)}, {clips} held-out clips", title_justify="left")
    for column in ("", "before", "after", "after, with another clip's context"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ("video", "audio"):
        key = f"{name}/{sigma}"
        if f"held_out/{OWN}/{key}" in before:
            values = before[f"held_out/{OWN}/{key}"], after[f"held_out/{OWN}/{key}"], after.get(f"held_out/{OTHER}/{key}")
            table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
    return table
