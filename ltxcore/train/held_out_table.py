"""The table of validation losses that `ltx run` prints at the end."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ltxcore.config.kept_weights import OF_AVERAGE
from ltxcore.errors import many
from ltxcore.protocols import MODALITIES
from ltxcore.train.conditioning_swap import CONTEXTS, OTHER, OWN
from ltxcore.train.validation_loss import SIGMAS


def held_out_table(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """Return a table of the validation loss at the highest sigma: before and after training, with the averaged weights
    if there are any, and with another clip's context.
    """
    sigma = f"sigma_{max(SIGMAS):.2f}"
    held_out = many(int(before.get(f"held_out/{OWN}/clips", 0)), "held-out clip", "held-out clips")
    table = Table(title=f"Validation loss of generated tokens at sigma {max(SIGMAS)}, {held_out}", title_justify="left")
    prefixes = {f"held_out/{OWN}/": "after", f"{OF_AVERAGE}held_out/{OWN}/": "after, averaged weights"}
    shown = {prefix: column for prefix, column in prefixes.items() if f"{prefix}clips" in after}
    for column in ("", "before", *shown.values(), "after, with another clip's conditioning"):
        table.add_column(column, justify="left" if not column else "right")
    # A run that was resumed with other objectives has measured some of them only before, or only after.
    contexts = dict.fromkeys(name.split("/")[1] for name in (*before, *after) if name.startswith("held_out/"))
    for context in (OWN, *(name for name in contexts if name not in CONTEXTS)):
        for name in MODALITIES:
            key = f"{name}/{sigma}"
            if f"held_out/{context}/{key}" in before.keys() | after.keys():
                there = (prefix.replace(f"/{OWN}/", f"/{context}/") for prefix in shown)
                other = after.get(f"held_out/{OTHER}/{key}") if context == OWN else None
                values = before.get(f"held_out/{context}/{key}"), *(after.get(prefix + key) for prefix in there), other
                label = name if context == OWN else f"{context}, {name}"
                table.add_row(label, *("-" if value is None else f"{value:.4f}" for value in values))
    return table
