"""Clips: frames that are not used or that lie at uneven times, rates that differ, the same clip twice, references of another shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import attrs

from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.doctor.findings import Finding, errors, warning
from ltxcore.encode.sample_sizes import Looked, Planned, infos_of, is_uneven, same_shape
from ltxcore.errors import DataError, Problem, listed
from ltxcore.files import why_unreadable
from ltxcore.media.probe import MediaInfo, frame_seconds, read_clip

SAME_RATE = Fraction(1, 1000)
"""Share by which two rates may differ that containers round differently."""


def examine_pictures(planned: Planned, looked: Looked, *, chosen: bool, deep: bool, resamples: bool = False) -> Iterator[Finding]:
    """What is wrong with the pictures of a sample.

    Args:
        planned: the sample.
        looked: what its files hold.
        chosen: whether its bucket is the user's choice, so that it matters which frames it leaves.
        deep: whether frames are decoded as far as they are used.
        resamples: whether uneven clips are taken at a constant rate.
    """
    sample, bucket, infos = planned.sample, planned.bucket, infos_of(planned.sample, looked, resamples)
    clip = infos.get("video")
    if bucket is None or clip is None or clip.is_image:
        return
    where, frames = sample.at(clip.path), clip.frames or 0
    if chosen and frames > bucket.frames:
        yield warning(
            "unused-frames",
            where,
            f"has {frames} frames, of which the bucket {bucket} takes the first {bucket.frames}",
            "Frame counts are multiples of 8 plus 1: cut it where it may end, add a longer bucket, or split it into several clips.",
        )
    if not resamples and is_uneven(clip, bucket.frames):
        yield from _uneven(where, clip.path, bucket.frames)
    reference = infos.get("reference_video")
    if reference is not None:
        yield from _another_shape(sample, clip, reference)
    if deep:
        used = bucket.frames if clip.uneven is None or not resamples else min(bucket.frames, clip.uneven.frames)
        yield from _decoded(where, clip.path, used)


def _uneven(where: str, path: Path, frames: int) -> Iterator[Finding]:
    """A variable frame rate."""
    try:
        times = frame_seconds(path, frames)
    except DataError as error:
        yield from errors("unreadable", [_at(problem, where) for problem in error.problems])
        return
    gaps = [after - before for before, after in pairwise(times)]
    yield warning(
        "variable-rate",
        where,
        f"its frames last from {min(gaps):.3f} to {max(gaps):.3f} s, and are taken as if all lasted as long",
        'Set variable_rate = "resample", or encode it anew at a constant rate, so that its movements and its sound keep their time.',
    )


def _another_shape(sample: Sample, clip: MediaInfo, reference: MediaInfo) -> Iterator[Finding]:
    where = sample.at(reference.path)
    if not same_shape(reference, clip):
        yield warning(
            "reference",
            where,
            f"has {reference.width} x {reference.height} pixels, its clip {clip.width} x {clip.height}: scaled differently across and down, "
            "it is cropped in another place",
            "Make it from the clip, with the width and height of the clip or the same share of both.",
        )
    if clip.rate and reference.rate and abs(reference.rate / clip.rate - 1) > SAME_RATE:
        yield warning(
            "reference",
            where,
            f"has {float(reference.rate):g} frames per second, its clip {float(clip.rate):g}: its frames show other moments",
            "Write it anew at the rate of its clip.",
        )


def _decoded(where: str, path: Path, frames: int) -> Iterator[Finding]:
    try:
        found = int(read_clip(path, max_frames=frames).frames.shape[0])
    except DataError as error:
        yield from errors("unreadable", [_at(problem, where) for problem in error.problems])
        return
    if found < frames:
        problem = DataError(
            f"has {found} frames, though it said that it has more; {frames} are needed", where=where, remedy="Encode it anew."
        )
        yield from errors("unreadable", problem.problems)


def _at(problem: Problem, where: str) -> Problem:
    return attrs.evolve(problem, where=where)


def different_rates(data: Dataset, looked: Looked) -> Iterator[Finding]:
    """Clips of one set that have several frame rates."""
    by_rate: dict[Fraction, list[str]] = {}
    for sample in data.samples:
        info = looked.infos.get(sample.media.get("video", Path()))
        if isinstance(info, MediaInfo) and info.rate is not None:
            near = next((rate for rate in by_rate if abs(info.rate / rate - 1) <= SAME_RATE), info.rate)
            by_rate.setdefault(near, []).append(sample.origin)
    found = rates_told({float(rate): names for rate, names in by_rate.items()}, "clips")
    if found:
        yield warning("different-rates", str(data.path), found, RATES_REMEDY)


RATES_REMEDY = "Each is trained at its own rate. If that is not meant, encode the media anew at one."


def rates_told(by_rate: dict[float, list[str]], noun: str) -> str:
    """That there are several frame rates, with the names of those that have the rarer ones; "" where there is one."""
    if len(by_rate) < 2:
        return ""
    most, *others = sorted(by_rate, key=lambda rate: (-len(by_rate[rate]), rate))
    rest = "; ".join(f"{rate:g} in {len(by_rate[rate])}: {listed(by_rate[rate])}" for rate in others)
    return f"its {noun} have {len(by_rate)} frame rates: {most:g} per second in {len(by_rate[most])}; {rest}"


def same_clips(samples: Sequence[Sample], raw: RawFiles, step: Callable[[], None]) -> Iterator[Finding]:
    """Rows whose files are copies of each other. Only files of one size are read.

    Args:
        samples: the rows.
        raw: hashes a file.
        step: called after each row.
    """
    by_size: dict[int, list[Sample]] = {}
    for sample in samples:
        path = _main(sample)
        if path is not None and not why_unreadable(path):
            by_size.setdefault(path.stat().st_size, []).append(sample)
    for alike in by_size.values():
        first: dict[str, Sample] = {}
        for sample in alike:
            path = _main(sample)
            if len(alike) > 1 and path is not None:
                other = first.setdefault(raw.content(path), sample)
                if other is not sample:
                    yield warning(
                        "duplicate-clip",
                        sample.at(path),
                        f'is a copy of "{other.origin}"{f" in {other.called}" if other.line else ""}',
                        f"Keep one of the {'rows' if other.line else 'files'}, or it counts twice.",
                    )
            step()


def _main(sample: Sample) -> Path | None:
    return sample.media.get("video", sample.media.get("audio"))
