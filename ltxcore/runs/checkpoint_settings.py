"""Check the settings of `[checkpoints]` against the rest of the run."""

from __future__ import annotations

from collections.abc import Iterator

from ltxcore.config.kept_weights import goes_by_average
from ltxcore.config.run_file import RunFile
from ltxcore.runs.group_settings import Refusal


def checkpoint_problems(config: RunFile) -> Iterator[Refusal]:
    """Find settings of `[checkpoints]` that are impossible with the other settings of the run."""
    if config.checkpoints.max_shard_size is not None and config.model.training_mode == "lora":
        yield "checkpoints.max_shard_size", "applies to a whole model, but a LoRA is always one file", "Remove the key."
    yield from _unmeasured(config)


def _unmeasured(config: RunFile) -> Iterator[Refusal]:
    """Refuse settings that judge a run by its validation loss, if the run does not measure a validation loss."""
    asked = config.checkpoints
    key = "keep_best" if asked.keep_best else "stop_after" if asked.stop_after is not None else ""
    if not key:
        if asked.best_by:
            yield (
                "checkpoints.best_by",
                "matters only for keep_best and stop_after, neither of which is set",
                "Set one of these keys, or remove this key.",
            )
        return
    if goes_by_average(asked.best_by) and config.ema.decay is None:
        yield (
            "checkpoints.best_by",
            "uses the averaged weights, but the run does not average weights",
            "Set ema.decay, or name a part of the validation loss without ema/.",
        )
    if config.data.held_out == 0 and not any(table.held_out for table in config.data.sets):
        yield f"checkpoints.{key}", "uses the validation loss, but no sample is held out", "Set data.held_out, or remove the key."
    if not config.validation.interval:
        yield (
            f"checkpoints.{key}",
            "uses the validation loss, which this run measures only before and after training",
            "Set validation.interval, or remove the key.",
        )
