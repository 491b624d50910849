"""`ltx inspect`: plan a run as `ltx run` does, and look at its first steps. Nothing is trained, and nothing is written to its `output_dir`.

What the model sees, as tensors in one safetensors file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor

from ltxcore.config.load import LoadedRun
from ltxcore.engines.process import Processes
from ltxcore.errors import ConfigError, DataError, LtxError
from ltxcore.files import write_whole
from ltxcore.inspection.picture import write_picture
from ltxcore.inspection.seen import Seen, first_seen
from ltxcore.inspection.token_table import tables
from ltxcore.logs import inform
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import ModelInput
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


FIELDS = {
    "clean": "clean",
    "noise": "noise",
    "sigma": "sigma",
    "denoise_mask": "denoise_mask",
    "timesteps": "timesteps",
    "noisy": "tokens",
    "velocity": "velocity",
    "loss_mask": "loss_mask",
    "marked": "marked",
    "positions": "positions",
    "context": "context",
    "context_mask": "context_mask",
}
"""Names in the file, and what `ModelInput` calls them."""


def write_dump(path: Path, seen: Sequence[Seen], run_file: str) -> None:
    """Write all tensors of some micro-batches.

    Keys are `STEP/MODALITY/NAME`, with STEP as in `Seen.name`: the names of `FIELDS` as far as the modality has them, `predicted` `[B, T + R, D]`, and `loss`
    `[B]`; `STEP/applied/CONDITION` `[B]` bool; and `STEP/draws/NAME` `[B]`, or `[1]` for one drawn for all. The header's `steps` says, as JSON, which samples
    each STEP has; its `run_file` is the resolved run file.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {key: tensor.detach().cpu().clone().contiguous() for each in seen for key, tensor in tensors_of(each)}
    steps = {
        each.name: {"epoch": each.micro_batch.epoch, "id": each.micro_batch.id, "samples": list(each.micro_batch.names)} for each in seen
    }
    data = safetensors.torch.save(tensors, metadata={"steps": json.dumps(steps), "run_file": run_file})
    try:
        write_whole(path, data)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Make room, or name another file.") from error


def tensors_of(seen: Seen) -> Iterator[tuple[str, Tensor]]:
    """Keys and tensors of one micro-batch."""
    for modality, inputs in seen.inputs.items():
        for name, tensor in _of_input(inputs):
            yield f"{seen.name}/{modality}/{name}", tensor
        for key, applied in inputs.applied.items():
            yield f"{seen.name}/applied/{key}", applied
    for name, found in (("predicted", seen.predicted), ("loss", seen.losses)):
        for modality, tensor in found.items():
            yield f"{seen.name}/{modality}/{name}", tensor
    for key, drawn in seen.draws.items():
        yield f"{seen.name}/draws/{key}", drawn


def _of_input(inputs: ModelInput) -> Iterator[tuple[str, Tensor]]:
    for name, field in FIELDS.items():
        tensor = getattr(inputs, field)
        if tensor is None and name == "context_mask":
            tensor = torch.ones(inputs.context.shape[:2])
        if tensor is not None:
            yield name, tensor
