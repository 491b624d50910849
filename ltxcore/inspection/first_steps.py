"""`ltx inspect`, which plans a run as `ltx run` does, and shows its first steps. Nothing is trained, and nothing is written to
the run's `output_dir`.

Tables that fit a console of 80 columns show what the model sees, and a safetensors file can hold all the tensors.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ltxcore.config.load import LoadedRun, located
from ltxcore.config.render import value_text
from ltxcore.config.tables import plain
from ltxcore.drawn import Value
from ltxcore.engines.process import Processes
from ltxcore.errors import ConfigError, DataError, LtxError
from ltxcore.files import write_whole
from ltxcore.inspection.counts import Count, counts
from ltxcore.inspection.picture import write_picture
from ltxcore.inspection.seen import Seen, first_seen
from ltxcore.logs import inform
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import MODALITIES, ModelInput
from ltxcore.runs.data_sets import plan_of
from ltxcore.runs.first_encoding import encoded_data
from ltxcore.runs.objective_datasets import objective_datasets
from ltxcore.runs.prompts import caption_prompts
from ltxcore.runs.run_plan import RunPlan, draft
from ltxcore.train.caption_dropout import KEY as CAPTION_DROPOUT
from ltxcore.train.feed import Samples
from ltxcore.train.prompts import load_prompts
from ltxcore.train.start_run import codecs_of, device_of
from ltxcore.train.trained_model import load_model


def inspect(
    loaded: LoadedRun, console: Console | None = None, *, steps: int = 1, dump: Path | None = None, png: Path | None = None
) -> list[Seen]:
    """Show what the model sees of a run's own data in the run's first optimizer steps, as they are in a single process.

    Args:
        loaded: the run file.
        console: the console to print to; standard output by default.
        steps: the number of steps.
        dump: the file for all tensors and losses. To compute them, the model is loaded in its state before the first step.
        png: the file for a picture of the first samples.

    Raises:
        LtxError: the run has faults; the error names all of them. The content of the output folder is not checked.
    """
    console = console or Console()
    _check(loaded, steps, [path for path in (dump, png) if path is not None])
    try:
        planned = _planned(loaded)
        samples = Samples(planned.outline.root, planned.outline.strategy.sources(), planned.manifest)
        if dump is not None:
            samples.texts = load_prompts(
                planned, caption_prompts(planned.config), codecs_of(planned.config, device_of(Processes())), Processes()
            )
        seen = list(first_seen(planned, samples, steps, _backbone(planned, samples) if dump is not None else None))
    except LtxError as error:
        raise located(error, loaded) from error
    for note in planned.outline.notes:
        inform(f"the run in {planned.outline.folder.path} {note}")
    for each in objective_datasets(planned.outline):
        inform(f"not shown: the samples of the objective {each.label}, which are in {each.dataset or each.outline.root}")
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
        ConfigError: the request is for more steps than the run has, or for a file in the run's output folder.
    """
    config = loaded.config
    if steps > config.optimization.steps:
        raise ConfigError(
            f"the run has {config.optimization.steps} step{'s' * (config.optimization.steps != 1)}, but {steps} were requested",
            where=loaded.where("optimization.steps"),
            remedy="Ask for fewer with --steps.",
        )
    for path in outputs:
        if path.absolute().is_relative_to(config.output_dir):
            raise ConfigError(f"{path} is in the run's output folder, which only a run writes to", remedy="Name a file elsewhere.")


def _planned(loaded: LoadedRun) -> RunPlan:
    """Plan the run with its data, which are encoded now unless they are already encoded."""
    found = draft(loaded, 1, writes=False).checked()
    return plan_of(found, encoded_data(found, Processes()))


def _backbone(planned: RunPlan, samples: Samples) -> LTXBackbone:
    """Load the model in its state before the first step."""
    device: torch.device = device_of(Processes())
    return load_model(planned, samples, device).backbone


FIELDS = {
    "clean": "clean",
    "noise": "noise",
    "sigma": "sigma",
    "denoise_mask": "denoise_mask",
    "timesteps": "timesteps",
    "levels": "levels",
    "strengths": "strengths",
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

    These are the keys, with STEP as in `Seen.name`:

    - `STEP/MODALITY/NAME`, where NAME is one of `FIELDS` that the modality has, `predicted` `[B, T + R, D]`, or `loss` `[B]`
    - `STEP/applied/CONDITION`, `[B]` bool
    - `STEP/draws/NAME`, `[B]`, or `[1]` for a number drawn once for all samples
    - `STEP/drawn/CONDITION/FIELD`, the values of drawn fields: `[B]` for numbers, `[B, N]` for lists of N numbers

    In the header, `steps` lists the samples of each STEP as JSON, and `run_file` is the resolved run file.

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
        for key, values in inputs.drawn.items():
            # What is no number, or a list of numbers as long as the others, has no tensor.
            with suppress(ValueError, TypeError, RuntimeError):
                yield f"{seen.name}/drawn/{key}", torch.tensor([value.value for value in values])
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
    """Yield tables with their titles: a summary of the micro-batches for each modality, their conditions, and every sample."""
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
    """Return a table with a column for each modality and a row for each kind of token, with the least and the greatest number in
    any sample.
    """
    present = [count for count in every if not count.is_absent]
    of = {name: found for name in MODALITIES if (found := [count for count in present if count.modality == name])}
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
        "level of given": [_range([level for count in found for level in count.levels or ()] or [0.0]) for found in of.values()],
        "strength of appended": [_range([strength for count in found for strength in count.strengths] or [1.0]) for found in of.values()],
        "position, seconds": [_range([moment for count in found for moment in count.seconds], 2) for found in of.values()],
        "position, pixels": [_sizes(found) for found in of.values()],
    }
    if all(count.marked is None for count in every):
        del rows["marked"]
    if all(count.levels is None for count in every):
        del rows["level of given"]
    if not any(count.strengths for count in every):
        del rows["strength of appended"]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def condition_table(seen: Sequence[Seen]) -> Table | None:
    """Return a table that shows how often each condition was applied, how often each list of a choice was drawn, and how often captions
    were dropped; None if none of these can happen.
    """
    numbers: dict[str, list[int]] = {}
    for each in seen:
        for key, applied in {key: applied for inputs in each.inputs.values() for key, applied in inputs.applied.items()}.items():
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
        _add_drawn(table, seen, key, applied_to)
    for key in dict.fromkeys(of for each in seen for inputs in each.inputs.values() for of in choices_of(inputs)):
        table.add_row(key, "")
        _add_drawn(table, seen, key, sum(len(each.micro_batch.names) for each in seen))
    return table


def _add_drawn(table: Table, seen: Iterable[Seen], key: str, samples: int) -> None:
    for name, often in drawn_counts(seen, key).items():
        table.add_row(f"  {name}", f"{often} of {samples}")


def choices_of(inputs: ModelInput) -> list[str]:
    """Return the keys of the choices between conditions, such as "video.choice0". Unlike a condition, a choice concerns every sample."""
    return [of for of in (key.rpartition("/")[0] for key in inputs.drawn) if of not in inputs.applied]


def drawn_counts(seen: Iterable[Seen], condition: str) -> dict[str, int]:
    """Count the samples to which a condition was applied with each value of its drawn keys, or with a value in each bin; and for a choice,
    the samples that drew each list.
    """
    found: dict[str, list[Value]] = {}
    for each in seen:
        for inputs in each.inputs.values():
            for key, values in inputs.drawn.items():
                of, _, field = key.rpartition("/")
                if of == condition:
                    applied = inputs.applied[of].tolist() if of in inputs.applied else [True] * len(values)
                    found.setdefault(field, []).extend(itertools.compress(values, applied))
    return {
        f"{field} {name}": often
        for field, values in found.items()
        for name, often in Counter(value.label for value in sorted(values, key=_rank)).items()
    }


def sample_table(found: Sequence[Count]) -> Table:
    """Return a table with a row for each sample and modality of a micro-batch."""
    with_loss = any(count.loss is not None for count in found)
    table = _table(gap=1)  # to fit 80 columns
    table.add_column("sample", overflow="fold", min_width=8)
    table.add_column("", min_width=5)
    for name in ("generated", "given", "part", "appended", "in loss", "sigma", *(("loss",) if with_loss else ())):
        table.add_column(name, justify="right", min_width=len(name), no_wrap=True)
    table.add_column("cond", overflow="fold", min_width=4)
    for count in found:
        table.add_row(
            count.sample if count.modality == found[0].modality else "",
            count.modality,
            *_numbers(count, with_loss),
            ", ".join(_short(key, values) for key, values in count.conditions.items()) or "-",
        )
    return table


def _numbers(count: Count, with_loss: bool) -> list[str]:
    if count.is_absent:
        return ["absent", *["-"] * (6 if with_loss else 5)]
    whole = [count.generated, count.given, count.partly, count.appended, count.in_loss]
    loss = ["-" if count.loss is None else f"{count.loss:.4f}"] if with_loss else []
    return [*map(str, whole), f"{count.sigma:.3f}", *loss]


def _table(gap: int = 2) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)


def _short(key: str, values: Sequence[Any]) -> str:
    """Return a short form of a key of `ModelInput.applied`, followed by the drawn values, for a row that names the modality:
    `audio.cond0.mask` becomes 0, and `audio.choice0.list1.cond0.mask` becomes choice0.list1.0.
    """
    if key.endswith(CAPTION_DROPOUT):
        return "no text"
    return re.sub(r"^\w+\.(choice\d+\.list\d+\.)?cond(\d+)\.\w+$", r"\1\2", key) + (
        f" ({', '.join(map(_brief, values))})" if values else ""
    )


def _rank(drawn: Value) -> tuple[bool, float, str]:
    """Return a sort key for a drawn value: numbers are ordered by size, and all other values come after them, ordered as text."""
    is_number = isinstance(drawn.value, int | float)
    return (not is_number, drawn.value if is_number else 0.0, str(drawn.value))


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else value_text(plain(value))


def _sizes(found: Iterable[Count]) -> str:
    sizes = sorted({count.pixels for count in found if count.pixels is not None})
    return ", ".join(f"{width} x {height}" for height, width in sizes) or "-"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _range(values: Sequence[float], digits: int = 3) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
