"""`ltx inspect`: plan a run as `ltx run` does, and examine its first steps. Nothing is trained, and nothing is written
to its `output_dir`.

What the model sees is shown in tables that fit a console of 80 columns, and written as tensors to one safetensors file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import safetensors.torch
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ltxcore.config.load import LoadedRun, located
from ltxcore.engines.process import Processes
from ltxcore.errors import ConfigError, DataError, LtxError
from ltxcore.files import write_whole
from ltxcore.inspection.counts import Count, counts
from ltxcore.inspection.picture import write_picture
from ltxcore.inspection.seen import Seen, first_seen
from ltxcore.logs import inform
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import MODALITIES, ModelInput
from ltxcore.runs.first_encoding import encoded
from ltxcore.runs.run_plan import RunPlan, draft, plan
from ltxcore.train.feed import Samples
from ltxcore.train.start_run import device_of
from ltxcore.train.trained_model import load_model


def inspect(
    loaded: LoadedRun, console: Console | None = None, *, steps: int = 1, dump: Path | None = None, png: Path | None = None
) -> list[Seen]:
    """Show what the model sees in the first optimizer steps of a run in one process.

    Args:
        loaded: the run file.
        console: the console to print to; standard output by default.
        steps: the number of steps.
        dump: the file for all tensors and losses; for these the model is loaded as it is before the first step.
        png: the file for a picture of the first samples.

    Raises:
        LtxError: for everything that is wrong with the run; what its output folder holds is not checked.
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
    """Refuse a request that cannot be met, before any work is done.

    Raises:
        ConfigError: it asks for more steps than the run has, or for a file in its output folder.
    """
    config = loaded.config
    if steps > config.optimization.steps:
        raise ConfigError(
            f"the run has {config.optimization.steps} steps, but {steps} were requested",
            where=loaded.where("optimization.steps"),
            remedy="Ask for fewer with --steps.",
        )
    for path in outputs:
        if path.absolute().is_relative_to(config.output_dir):
            raise ConfigError(f"{path} is in the run's output folder, which only a run writes to", remedy="Name a file elsewhere.")


def _planned(loaded: LoadedRun) -> RunPlan:
    """Plan the run with its data, which are encoded now if that has not been done yet."""
    found = draft(loaded, 1, writes=False).checked()
    data = loaded.config.data
    root, only = encoded(found, data.dataset, data.preprocessed_data_root, Processes())
    return plan(attrs.evolve(found, root=root), only)


def _backbone(planned: RunPlan, samples: Samples) -> LTXBackbone:
    """Load the model as it is before the first step."""
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
"""The names of tensors in the file, and the fields of `ModelInput` that they hold."""


def write_dump(path: Path, seen: Sequence[Seen], run_file: str) -> None:
    """Write all tensors of some micro-batches to a file.

    The keys are `STEP/MODALITY/NAME`, with STEP as in `Seen.name` and NAME one of `FIELDS` that the modality has,
    `predicted` `[B, T + R, D]`, or `loss` `[B]`; `STEP/applied/CONDITION` `[B]` bool; and `STEP/draws/NAME` `[B]`, or
    `[1]` for a number drawn once for all samples. In the header, `steps` lists, as JSON, the samples of each STEP, and
    `run_file` is the resolved run file.

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
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another file.") from error


def tensors_of(seen: Seen) -> Iterator[tuple[str, Tensor]]:
    """Yield the keys and tensors of one micro-batch."""
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


def tables(seen: Sequence[Seen]) -> Iterator[tuple[str, Table]]:
    """Yield tables with their titles: a summary of the micro-batches by modality, their conditions, and every sample."""
    by_batch = {each.name: list(counts(each)) for each in seen}
    samples = sum(len(each.micro_batch.names) for each in seen)
    title = f"What the model sees: tokens per sample, in {samples} sample{'' if samples == 1 else 's'}"
    yield title, summary_table([count for found in by_batch.values() for count in found])
    applied = condition_table(seen)
    if applied is not None:
        yield "Conditions", applied
    for each in seen:
        part = f", micro-batch {each.part} of {each.parts}" if each.parts > 1 else ""
        yield f"Step {each.step}{part}", sample_table(by_batch[each.name])


def summary_table(every: Sequence[Count]) -> Table:
    """Return a table with a column for each modality: the number of tokens of each kind, from the least to the most in any sample."""
    of = {name: found for name in MODALITIES if (found := [count for count in every if count.modality == name])}
    table = _table()
    table.add_column("")
    for name, found in of.items():
        table.add_column(f"{name}, {'generated' if found[0].is_generated else 'frozen'}", justify="right")
    rows = {
        "generated": [_span([count.generated for count in found]) for found in of.values()],
        "given": [_span([count.given for count in found]) for found in of.values()],
        "given in part": [_span([count.partly for count in found]) for found in of.values()],
        "appended": [_span([count.appended for count in found]) for found in of.values()],
        "marked": [_span([count.marked or 0 for count in found]) for found in of.values()],
        "in the loss": [_span([count.in_loss for count in found]) for found in of.values()],
        "sigma": [_range([count.sigma for count in found]) for found in of.values()],
        "timesteps": [_range([level for count in found for level in count.timesteps]) for found in of.values()],
        "position, seconds": [_range([moment for count in found for moment in count.seconds], 2) for found in of.values()],
        "position, pixels": [_sizes(found) for found in of.values()],
    }
    if all(count.marked is None for count in every):
        del rows["marked"]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def condition_table(seen: Iterable[Seen]) -> Table | None:
    """Return a table of how often each condition applied; None if there are no conditions."""
    numbers: dict[str, list[int]] = {}
    for each in seen:
        for inputs in each.inputs.values():
            for key, applied in inputs.applied.items():
                number = numbers.setdefault(key, [0, 0])
                number[0] += int(applied.sum())
                number[1] += int(applied.numel())
    if not numbers:
        return None
    table = _table()
    for name in ("condition", "applied to"):
        table.add_column(name)
    for key, (applied_to, samples) in numbers.items():
        table.add_row(key, f"{applied_to} of {samples} samples")
    return table


def sample_table(found: Sequence[Count]) -> Table:
    """Return a table with a row for each sample and modality of a micro-batch."""
    with_loss = any(count.loss is not None for count in found)
    table = _table(gap=1)  # to fit 80 columns
    table.add_column("sample", overflow="fold", min_width=8)
    table.add_column("", min_width=5)
    for name in ("generated", "given", "part", "appended", "in loss", "sigma", *(("loss",) if with_loss else ())):
        table.add_column(name, justify="right", min_width=len(name), no_wrap=True)
    table.add_column("cond", overflow="fold", min_width=4)
    before = ""
    for count in found:
        sample = count.sample if count.sample != before else ""
        before = count.sample
        table.add_row(sample, count.modality, *_numbers(count, with_loss), ", ".join(map(_short, count.conditions)) or "-")
    return table


def _numbers(count: Count, with_loss: bool) -> list[str]:
    whole = [count.generated, count.given, count.partly, count.appended, count.in_loss]
    loss = ["-" if count.loss is None else f"{count.loss:.4f}"] if with_loss else []
    return [*map(str, whole), f"{count.sigma:.3f}", *loss]


def _table(gap: int = 2) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)


def _short(key: str) -> str:
    """Shorten a condition's key for a row that names its modality: `audio.cond0.mask` becomes 0."""
    return re.sub(r"^\w+\.cond(\d+)\.\w+$", r"\1", key)


def _sizes(found: Iterable[Count]) -> str:
    sizes = sorted({count.pixels for count in found if count.pixels is not None})
    return ", ".join(f"{width} x {height}" for height, width in sizes) or "-"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _range(values: Sequence[float], digits: int = 3) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
