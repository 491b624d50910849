"""`ltx inspect`: plan a run as `ltx run` does, and look at its first steps. Nothing is trained, and nothing is written to its `output_dir`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch
from rich.console import Console

from ltxcore.config.load import LoadedRun
from ltxcore.engines.process import Processes
from ltxcore.errors import ConfigError, LtxError
from ltxcore.inspection.dump import write_dump
from ltxcore.inspection.picture import write_picture
from ltxcore.inspection.seen import Seen, first_seen
from ltxcore.inspection.token_table import tables
from ltxcore.logs import inform
from ltxcore.models.backbone import LTXBackbone
from ltxcore.runs.first_encoding import encoded
from ltxcore.runs.run_plan import RunPlan, located, outline, plan
from ltxcore.train.feed import Samples
from ltxcore.train.start_run import device_of
from ltxcore.train.trained_model import load_model


def inspect(
    loaded: LoadedRun, console: Console | None = None, *, steps: int = 1, dump: Path | None = None, png: Path | None = None
) -> list[Seen]:
    """Show what the model sees in the first optimiser steps of a run in one process.

    Args:
        loaded: the run file.
        console: shown it; by default standard output.
        steps: how many steps.
        dump: where to write every tensor, and the losses; the model is loaded for it, as it is before the first step.
        png: where to draw the first samples.

    Raises:
        LtxError: with all that is wrong with the run, but for what its output folder holds.
    """
    console = console or Console()
    _check(loaded, steps, [path for path in (dump, png) if path is not None])
    try:
        planned = _planned(loaded)
        samples = Samples(planned.outline.root, planned.outline.strategy.sources(), planned.manifest)
        seen = list(first_seen(planned, samples, steps, _backbone(planned, samples) if dump is not None else None))
    except LtxError as error:
        raise located(error, loaded) from error
    for note in planned.outline.notes:
        inform(f"the run in {planned.outline.folder.path} {note}")
    for title, table in tables(seen):
        console.print(f"\n{title}", style="bold", highlight=False, markup=False)
        console.print(table)
    if png is not None:
        write_picture(png, seen, f"What the model sees: {loaded.path.name}")
        console.out(f"drawn in {png}", highlight=False)
    if dump is not None:
        write_dump(dump, seen, planned.outline.loaded.resolved())
        console.out(f"every tensor is in {dump}", highlight=False)
    return seen


def _check(loaded: LoadedRun, steps: int, outputs: Sequence[Path]) -> None:
    """Refuse what is asked for, before any work.

    Raises:
        ConfigError: more steps than the run has, or a file in its output folder.
    """
    config = loaded.config
    if steps > config.optimization.steps:
        raise ConfigError(
            f"the run has {config.optimization.steps} steps, and {steps} are asked for",
            where=loaded.where("optimization.steps"),
            remedy="Ask for fewer with --steps.",
        )
    for path in outputs:
        if path.absolute().is_relative_to(config.output_dir):
            raise ConfigError(f"{path} lies in the run's output folder, which only a run writes to", remedy="Name a file elsewhere.")


def _planned(loaded: LoadedRun) -> RunPlan:
    """The run with its data, encoded now if they are not."""
    found = outline(loaded, 1, writes=False)
    data = loaded.config.data
    root, only = encoded(found, data.dataset, data.preprocessed_data_root, Processes())
    return plan(attrs.evolve(found, root=root), only)


def _backbone(planned: RunPlan, samples: Samples) -> LTXBackbone:
    """The model as it is before the first step."""
    device: torch.device = device_of(Processes())
    return load_model(planned, samples, device).backbone
