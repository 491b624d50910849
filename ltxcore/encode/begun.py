"""The samples of a dataset that are encoded already, and those that an unfinished run began with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.encode.auto_buckets import buckets_for
from ltxcore.encode.encoding import encoding_as_far
from ltxcore.encode.sample_sizes import look_at
from ltxcore.encode.windows import BEGINNING, clips_of, is_of, windowed
from ltxcore.encoded.listing import whole_samples
from ltxcore.errors import Problem, many
from ltxcore.workers import usual_workers


def known_windows(data: Dataset, root: Path, options: PreprocessingTable) -> Dataset:
    """Return a dataset whose samples are the windows of its clips, as encoding with these options would make them. Files of which the
    root stores no facts are opened.
    """
    if options.windows == BEGINNING:
        return data
    encoding = encoding_as_far(data, root, options, None, str, list[Problem]())
    looked = look_at(data.samples, encoding.rules, encoding.tools.raw, usual_workers(), lambda: None, listens=False)
    chosen, rules = buckets_for(data, looked, encoding), encoding.rules
    return windowed(data, looked, rules if chosen is None else attrs.evolve(rules, buckets=chosen.buckets))[0]


def whole_already(dataset: Path, root: Path, options: PreprocessingTable, folders: Collection[str]) -> tuple[str, ...]:
    """Return the names of a dataset's samples that are encoded in all folders that a run reads, whether or not they are up to date.

    Raises:
        DataError: the dataset cannot be read.
    """
    data = known_windows(read_dataset(dataset, options, folders, root), root, options)
    return whole_samples(root, data.folders, [sample.name for sample in data.samples], data.absent)


def only_rows(data: Dataset, names: Collection[str]) -> Dataset:
    """Return the dataset with only the rows of the samples that a run began with, and a note if there are other rows."""
    clips = clips_of(names)
    samples = tuple(sample for sample in data.samples if is_of(sample, clips))
    data = attrs.evolve(data, only=frozenset(names))
    others = len(data.samples) - len(samples)
    if not others:
        return data
    what = f"{many(others, 'row is', 'rows are')} left out, because this run began with the other {len(samples)}; `ltx preprocess`, or --allow-changes, adds those that can be read"
    return attrs.evolve(data, samples=samples, notes=(*data.notes, f"{data.path}: {what}"))
