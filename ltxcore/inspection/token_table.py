"""What the model sees, as tables that fit a console of 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.table import Table

from ltxcore.inspection.counts import Count, counts
from ltxcore.inspection.seen import Seen
from ltxcore.protocols import MODALITIES


def tables(seen: Sequence[Seen]) -> Iterator[tuple[str, Table]]:
    """Titles and tables: the whole of some micro-batches by modality, their conditions, and every sample."""
    by_batch = {each.name: list(counts(each)) for each in seen}
    samples = sum(len(each.micro_batch.names) for each in seen)
    title = f"What the model sees: tokens of a sample, in {samples} sample{'' if samples == 1 else 's'}"
    yield title, summary_table([count for found in by_batch.values() for count in found])
    applied = condition_table(seen)
    if applied is not None:
        yield "Conditions", applied
    for each in seen:
        part = f", micro-batch {each.part} of {each.parts}" if each.parts > 1 else ""
        yield f"Step {each.step}{part}", sample_table(by_batch[each.name])


def summary_table(every: Sequence[Count]) -> Table:
    """A column for each modality: how many tokens of a sample are what, from least to most over all samples."""
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
        "lies at, seconds": [_range([moment for count in found for moment in count.seconds], 2) for found in of.values()],
        "lies at, pixels": [_sizes(found) for found in of.values()],
    }
    if all(count.marked is None for count in every):
        del rows["marked"]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def condition_table(seen: Iterable[Seen]) -> Table | None:
    """How often each condition applied; None where there is none."""
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
    """A row for each sample and modality of a micro-batch."""
    with_loss = any(count.loss is not None for count in found)
    table = _table(gap=1)  # for 80 columns
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
    """`audio.cond0.mask` as a row of audio says it: 0."""
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
