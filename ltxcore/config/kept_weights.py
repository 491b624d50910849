"""The tables of the run file about keeping weights: `[ema]` averages the weights, and `[checkpoints]` saves them."""

from __future__ import annotations

from typing import Literal

import attrs

from ltxcore.config.tables import Finding, key

OF_AVERAGE = "ema/"
"""The prefix in the names of metrics that are measured with the averaged weights."""


def goes_by_average(best_by: str) -> bool:
    """Return whether `checkpoints.best_by` names a loss of the averaged weights."""
    return f"{best_by}/".startswith(OF_AVERAGE)


@attrs.frozen(kw_only=True)
class EmaTable:
    """`[ema]`: an exponential moving average of the trained weights, measured and saved beside them."""

    decay: float | None = key(
        None,
        help="share of the average that is kept in each optimizer step: 0.999 averages over about the last 1000 steps; by default there is no average",
        above=0,
        below=1,
    )
    every: int = key(
        1,
        help="optimizer steps between updates of the average; an update counts for all steps since the last one",
        unit="steps",
        at_least=1,
        at_most=10**6,
    )
    device: Literal["model", "cpu"] = key("model", help='where the average is kept: beside the weights, or in CPU memory ("cpu")')

    def problems(self) -> list[Finding]:
        if self.decay is None and (self.every != 1 or self.device != "model"):
            return [(("decay",), "is not set, so there is no average", "Set the key, such as decay = 0.999, or remove the table.")]
        return []


@attrs.frozen(kw_only=True)
class CheckpointsTable:
    """`[checkpoints]`: when weights and state are saved."""

    interval: int | None = key(None, help="how often to save a checkpoint, in steps; by default only at the end", unit="steps", at_least=1)
    keep_last_n: int = key(1, help="number of checkpoints to keep; -1 and 0 keep all", at_least=-1)
    keep_best: bool = key(False, help="also keep the weights that had the lowest validation loss, in the folder best")
    best_by: str = key(
        "",
        help='the part of the validation loss that keep_best and stop_after use: "audio", "video/sigma_0.50", ...; for the averaged weights "ema", '
        '"ema/audio", ...; for an objective with a loss of its own, the name of the objective, "slider", "slider/video", ...; by default the mean over modalities and sigmas',
    )
    stop_after: int | None = key(
        None,
        help="end the run when the validation loss has not fallen for this many measurements",
        unit="measurements",
        at_least=1,
        at_most=10**6,
    )
    precision: Literal["bfloat16", "float32"] = key("bfloat16", help="precision of saved weights")
    max_shard_size: float | None = key(
        None,
        help="size above which a fully fine-tuned model is saved in shards, with an index; by default in one file",
        unit="GiB",
        above=0,
        at_most=10**6,
    )
    no_resume: bool = key(False, help="start over even if the output folder holds an unfinished run")
    save_training_state: Literal["full", "minimal", "off"] = key(
        "full", help='with "full", a run can be resumed exactly; "minimal" leaves out the optimizer state, and "off" saves no state'
    )
