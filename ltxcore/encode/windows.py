"""Windows of clips: the parts of a long clip that each become a sample.

A window is as long as the bucket of its clip. Windows of a clip have the clip as their origin, so they are held out together. The window at
the beginning of a clip has the same name and the same bytes as the sample of a clip without windows, so another choice of windows encodes
only windows that begin elsewhere. A later window is named after its clip and the frame that it begins with, such as `beach/sea@000048`. If
a clip of the dataset has this name itself, the window is `beach/sea@@000048`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.sample_sizes import Looked, Rules, bucket_of, infos_of
from ltxcore.errors import many

BEGINNING = "first"
"""The choice of a single window, at the beginning of each clip."""

MARK = "@"
"""The mark between the name of a clip and the frame that a window begins with."""


def starts_of(windows: str, frames: int, length: int) -> Sequence[int]:
    """Return the first frame of each window of a clip; that of the first window is 0.

    Args:
        windows: the key `windows` of the options.
        frames: the number of frames of the clip.
        length: the number of frames of a window; at most `frames`.

    Source: docs/explanation/arithmetic.md#windows-of-a-clip
    """
    kind, _, number = windows.partition(":")
    rest = frames - length
    if kind == "stride":
        return range(0, rest + 1, int(number))
    count = int(number) if kind == "uniform" else 1
    return sorted({index * rest // max(1, count - 1) for index in range(count)})


def windowed(data: Dataset, looked: Looked, rules: Rules) -> tuple[Dataset, list[str]]:
    """Return a dataset whose samples are the windows of its clips, and notes about them. A clip that cannot be read or is too short stays
    as it is, and so do images, and audio without a clip.

    Args:
        data: the dataset.
        looked: the facts about its files.
        rules: the rules by which samples are planned.
    """
    if rules.windows == BEGINNING:
        return data, []
    samples, counts, notes = list[Sample](), list[int](), list[str]()
    taken = {sample.name for sample in data.samples}
    for sample in data.samples:
        clip = infos_of(sample, looked, rules).get("video")
        bucket = None if clip is None or clip.is_image or not rules.buckets else bucket_of(clip, rules)
        if clip is None or bucket is None:
            samples.append(sample)
            continue
        starts = starts_of(rules.windows, clip.frames or 0, bucket.frames)
        counts.append(len(starts))
        samples += [_window(sample, start, taken) for start in starts]
    told = f"{many(len(counts), 'clip becomes', 'clips become')} {many(sum(counts), 'window', 'windows')}"
    notes.append(f'{data.path}: {told} (windows = "{rules.windows}")')
    kept = samples if data.only is None else [sample for sample in samples if sample.name in data.only]
    if len(kept) < len(samples):
        others = len(samples) - len(kept)
        notes.append(
            f"{data.path}: {many(others, 'window is', 'windows are')} left out, because this run began with the other {len(kept)} samples"
        )
    return attrs.evolve(data, samples=tuple(kept)), notes


def _window(sample: Sample, start: int, taken: set[str]) -> Sample:
    if not start:
        return sample
    mark = MARK
    while (name := f"{sample.name}{mark}{start:06d}") in taken:
        mark += MARK
    taken.add(name)
    return attrs.evolve(sample, name=name, where=f"{sample.where}, from frame {start}", start=start)


def is_window(name: str) -> bool:
    """Return whether a sample may be a window that begins later than its clip, judging by its name."""
    return MARK in name


def clips_of(names: Collection[str]) -> frozenset[str]:
    """Return the names of samples, and of the clips that they may be windows of."""
    return frozenset(names) | {name.rpartition(MARK)[0].rstrip(MARK) for name in names if is_window(name)}


def is_of(sample: Sample, clips: Collection[str]) -> bool:
    """Return whether a row may become one of some samples; `clips` is the result of `clips_of` for their names."""
    return sample.name in clips or sample.name.rstrip(MARK) in clips
