"""The notes of `ltx check` on a run without mistakes: on its samples, and on faults that the run repairs by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from ltxcore.config.loras import Strength, not_under, not_under_model, strengths
from ltxcore.dataset.rows import Dataset
from ltxcore.encode.standing import Standing
from ltxcore.encode.survey import Survey
from ltxcore.engines.process import Place
from ltxcore.protocols import Manifest
from ltxcore.runs.fits import newest
from ltxcore.runs.passes import Passes, passes_of, said
from ltxcore.runs.run_plan import Outline, RunPlan, ordered

SHOWN = 5
"""The maximum number of left-out rows that a note names."""


@attrs.frozen(eq=False)
class Seen:
    """The present state of the dataset of a run.

    Attributes:
        rows: the rows without mistakes.
        refused: the places of the other rows.
        survey: the survey of the dataset's files.
        standing: the state of the dataset's encoding; None if it cannot be determined.
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


def trains_on(plan: RunPlan, ahead: Manifest | None, who: str = "the run", share: float = 1.0) -> str:
    """Tell how often the run trains on each sample, and how full its micro-batches are.

    Args:
        plan: the plan of the run, or that of an objective's dataset; if samples are still to be encoded, only the plan's split is right.
        ahead: the samples that are still to be encoded, as far as headers determine their shapes; None if all samples are
            encoded, so that the run follows the order in the plan.
        who: what trains on the samples.
        share: the share of optimizer steps that train on these samples.
    """
    config, processes, train = plan.config, Place.of_environment().world_size, plan.split.train

    def told(passes: Passes) -> str:
        return f"{who} trains on {said(attrs.evolve(passes, steps=round(passes.steps * share)))}."

    found = passes_of(plan.order, config, processes)
    if ahead is None:
        sentence = told(found)
        return f"{sentence[0].upper()}{sentence[1:]}"
    if set(train) <= set(ahead.samples):
        per_epoch = {each: count for each, (_, count) in plan.order.sets.items()}
        order = ordered(plan.outline, ahead, train, per_epoch)
        return f"Judging by the headers, {told(passes_of(order, config, processes))}"
    if (tokens := config.optimization.tokens_per_batch) is not None:
        return f"How many samples a micro-batch of up to {tokens:,} tokens holds is known once the samples are encoded."
    alike = attrs.evolve(found, shapes=(sum(found.shapes),), sizes=found.sizes[:1])
    return f"If all samples have the same shape, {told(alike)}"


def of_folder(found: Outline) -> Iterator[str]:
    """Describe what will happen to the contents of the output folder."""
    path = found.folder.path
    yield from (f"The unfinished run in {path} {note}." for note in found.notes)
    if found.config.checkpoints.no_resume and found.folder.status() is not None:
        yield f"The run starts over, and removes what the unfinished one in {path} left behind, because checkpoints.no_resume is set."


def of_stopping(found: Outline) -> Iterator[str]:
    """Warn that a run which may end early would miss the low learning rates at the end of its schedule."""
    kind, after = found.config.optimization.scheduler_type, found.config.checkpoints.stop_after
    if after is not None and kind != "constant":
        yield (
            f'checkpoints.stop_after may end the run while the schedule "{kind}" is still at a high learning rate; losses often fall most at its end. '
            'optimization.scheduler_type = "constant" avoids this.'
        )


def of_loras(found: Outline) -> Iterator[str]:
    """Warn that a LoRA or the model of the run was trained on top of others which the run does not have.

    Raises:
        LtxError: the metadata of a LoRA or of the model cannot be read.
    """
    model = found.config.model
    full = model.training_mode == "full"
    start = [] if full or model.load_checkpoint is None else [Strength(newest(model.load_checkpoint))]
    loras = [*strengths(model.loras), *start]
    own = Path() if found.base.checkpoint is None else found.base.checkpoint.header.where
    weights = newest(model.load_checkpoint) if full and model.load_checkpoint is not None else own
    for what in (*not_under(loras), *not_under_model(weights, loras)):
        yield f"{what}: add it to model.loras, unless it is merged into the model."


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
    """Tell what happens to the rows of a dataset, and how many of its files were opened."""
    yield from seen.rows.notes
    yield from seen.survey.notes
    if seen.survey.chosen is not None:
        yield "\n  ".join([f"{seen.rows.path}: what clips lose in these buckets:", *seen.survey.chosen.cropping])
    yield from _left_out(seen)
    yield from _anew(seen)
    yield from _unopened(seen, run_file)
