"""The notes of `ltx check` on a run without mistakes: its samples, and what the run does about them by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from ltxcore.dataset.rows import Dataset
from ltxcore.encode.standing import Standing
from ltxcore.encode.survey import Survey
from ltxcore.encoded.batches import order_of
from ltxcore.engines.process import Place
from ltxcore.protocols import Manifest
from ltxcore.runs.passes import counted, passes_of, said
from ltxcore.runs.run_plan import Outline, RunPlan

SHOWN = 5
"""The number of left-out rows to name in a note."""


@attrs.frozen(eq=False)
class Seen:
    """The present state of a run's dataset.

    Attributes:
        rows: the rows without mistakes. refused: the places of the other rows.
        survey: the survey of its files.
        standing: the state of its encoding; None if it cannot be known.
    """

    rows: Dataset
    refused: frozenset[str]
    survey: Survey
    standing: Standing | None


def samples_told(seen: Seen | None, plan: RunPlan | None, dataset: Path) -> str:
    """Say how many samples there are."""
    if plan is None:
        return ""
    split = f"{len(plan.split.train)} to train on, {len(plan.split.held_out)} held out"
    if seen is None or seen.standing is None or not seen.standing.encodes:
        return split
    total = len(plan.split.train) + len(plan.split.held_out)
    if not seen.standing.fresh and not seen.standing.anew:
        return f"{total}, not encoded yet; the first run encodes {dataset}"
    if not seen.standing.fresh:
        return f"{split}; the first run encodes {'it' if total == 1 else f'all {total}'} again"
    return f"{split}; {len(seen.standing.fresh)} are encoded, and the first run encodes the other {seen.standing.encodes}"


def trains_on(plan: RunPlan, ahead: Manifest | None) -> str:
    """Say how often the run trains on each sample, and how full its micro-batches are.

    Args:
        plan: the plan of the run; only its split counts if samples are still to be encoded.
        ahead: those samples, as far as headers tell what they will be like; None if all are encoded, so that the plan's
            order is that of the run.
    """
    config, processes, train = plan.config, Place.of_environment().world_size, plan.split.train
    if ahead is None:
        return f"It trains on {said(passes_of(plan.order, config, processes))}."
    if set(train) <= set(ahead.samples):
        order = order_of(ahead, train, config.optimization.batch_size, config.seed)
        return f"Judging by the headers, it trains on {said(passes_of(order, config, processes))}."
    return f"If they are all of one shape, it trains on {said(counted([len(train)], config, processes))}."


def of_folder(found: Outline) -> Iterator[str]:
    """Describe what will happen to the contents of the output folder."""
    path = found.folder.path
    yield from (f"The unfinished run in {path} {note}." for note in found.notes)
    if found.config.checkpoints.no_resume and found.folder.status() is not None:
        yield f"The run starts over, and removes what the unfinished one in {path} left behind, because checkpoints.no_resume is set."


def of_stopping(found: Outline) -> Iterator[str]:
    """Say that a run which may end early would not reach the low learning rates at the end of its schedule."""
    kind, after = found.config.optimization.scheduler_type, found.config.checkpoints.stop_after
    if after is not None and kind != "constant":
        yield (
            f'checkpoints.stop_after may end the run while the schedule "{kind}" is still at a high learning rate; losses often fall most at its end. '
            'optimization.scheduler_type = "constant" avoids this.'
        )


def _left_out(seen: Seen) -> Iterator[str]:
    left = (*seen.rows.left_out, *seen.survey.left_out)
    if left:
        more = f"\n  and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        lines = "".join(f"\n  {problem.where}: {problem.what}" for problem in left[:SHOWN])
        yield f'{seen.rows.path}: left out (on_error = "skip"):{lines}{more}'


def _anew(seen: Seen) -> Iterator[str]:
    if seen.standing is None:
        return
    total = len(seen.rows.samples)
    for why, names in seen.standing.anew.items():
        yield f"{seen.rows.path}: the first run encodes {len(names)} of {total} samples again, since {why}."


def _unopened(seen: Seen, path: Path) -> Iterator[str]:
    if seen.survey.others:
        yield (
            f"{seen.rows.path}: {seen.survey.opened} of its files were opened, and {seen.survey.others:,} more were not; `ltx doctor {path}` opens every one."
        )


def of_dataset(seen: Seen, run_file: Path) -> Iterator[str]:
    """Say what happens to the rows of a dataset, and which of its files were looked at."""
    yield from seen.rows.notes
    yield from seen.survey.notes
    yield from _left_out(seen)
    yield from _anew(seen)
    yield from _unopened(seen, run_file)
