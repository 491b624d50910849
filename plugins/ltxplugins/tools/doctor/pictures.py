"""Checks of clips: frames that are not used or are unevenly spaced in time, differing rates, duplicate clips,
references of another shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import DataError, Problem
from ltxcore.api.commands import listed
from ltxplugins.tools.doctor.findings import Finding, errors, warning

if TYPE_CHECKING:
    from ltxcore.api.dataset import Planned, Sample, Survey
    from ltxcore.api.media import MediaInfo

SAME_RATE = Fraction(1, 1000)
"""The share by which two rates may differ because containers round differently."""


def examine_pictures(planned: Planned, found: Survey, *, deep: bool) -> Iterator[Finding]:
    """Find what is wrong with the video of a sample.

    Args:
        planned: the sample.
        found: the dataset of the sample.
        deep: whether frames are decoded as far as they are used.
    """
    sample, bucket, infos = planned.sample, planned.bucket, found.infos(planned.sample)
    clip = infos.get("video")
    if bucket is None or clip is None or clip.is_image:
        return
    where, frames, resamples = sample.at(clip.path), clip.frames or 0, found.encoding.rules.resamples
    # Which frames a bucket leaves out matters only if the user chose the bucket.
    if found.encoding.options.resolution_buckets and frames > bucket.frames:
        yield warning(
            "unused-frames",
            where,
            f"has {frames} frames, of which the bucket {bucket} uses the first {bucket.frames}",
            "Frame counts are multiples of 8 plus 1: cut the clip where it can end, add a longer bucket, or split it into several clips.",
        )
    if not resamples and clip.is_uneven(bucket.frames):
        yield from _uneven(where, clip.path, bucket.frames)
    reference = infos.get("reference_video")
    if reference is not None:
        yield from _another_shape(sample, clip, reference)
    if deep:
        used = bucket.frames if clip.uneven is None or not resamples else min(bucket.frames, clip.uneven.frames)
        yield from _decoded(where, clip.path, used)


def _uneven(where: str, path: Path, frames: int) -> Iterator[Finding]:
    """Warn about a variable frame rate."""
    from ltxcore.api.media import frame_seconds

    try:
        times = frame_seconds(path, frames)
    except DataError as error:
        yield from errors("unreadable", [_at(problem, where) for problem in error.problems])
        return
    gaps = [after - before for before, after in pairwise(times)]
    yield warning(
        "variable-rate",
        where,
        f"its frames last from {min(gaps):.3f} to {max(gaps):.3f} s, but are used as if they were all equally long",
        'Set variable_rate = "resample", or encode it again at a constant rate, so that its motion and its sound keep their timing.',
    )


def _another_shape(sample: Sample, clip: MediaInfo, reference: MediaInfo) -> Iterator[Finding]:
    where = sample.at(reference.path)
    if not reference.is_shaped_as(clip):
        yield warning(
            "reference",
            where,
            f"has {reference.width} x {reference.height} pixels, but its clip has {clip.width} x {clip.height}: its aspect ratio is different, "
            "so it is cropped in another place",
            "Make it from the clip, with the width and height of the clip, or the same fraction of both.",
        )
    if clip.rate and reference.rate and abs(reference.rate / clip.rate - 1) > SAME_RATE:
        yield warning(
            "reference",
            where,
            f"has {float(reference.rate):g} frames per second, but its clip has {float(clip.rate):g}: its frames show different moments",
            "Write it again at the rate of its clip.",
        )


def _decoded(where: str, path: Path, frames: int) -> Iterator[Finding]:
    from ltxcore.api.media import read_clip

    try:
        found = int(read_clip(path, max_frames=frames).frames.shape[0])
    except DataError as error:
        yield from errors("unreadable", [_at(problem, where) for problem in error.problems])
        return
    if found < frames:
        problem = DataError(f"has {found} frames, fewer than it claims; {frames} are needed", where=where, remedy="Encode it again.")
        yield from errors("unreadable", problem.problems)


def _at(problem: Problem, where: str) -> Problem:
    return attrs.evolve(problem, where=where)


def different_rates(found: Survey) -> Iterator[Finding]:
    """Warn about clips with different frame rates in one set."""
    clips = [(sample.origin, found.infos(sample).get("video")) for sample in found.samples]
    rates = [(origin, info.rate) for origin, info in clips if info is not None and info.rate is not None]
    told = rates_told(rates, "clips")
    if told:
        yield warning("different-rates", str(found.encoding.data.path), told, RATES_REMEDY)


RATES_REMEDY = "Each clip is trained at its own rate. If you do not want that, encode the media again at the same rate."


def rates_told(rates: Iterable[tuple[str, Fraction | float]], noun: str) -> str:
    """Say that there are several frame rates, and name the clips with the rarer ones; "" if there is only one rate."""
    by_rate: dict[float, list[str]] = {}
    for name, rate in rates:
        near = next((other for other in by_rate if abs(rate / other - 1) <= SAME_RATE), float(rate))
        by_rate.setdefault(near, []).append(name)
    if len(by_rate) < 2:
        return ""
    most, *others = sorted(by_rate, key=lambda rate: (-len(by_rate[rate]), rate))
    rest = "; ".join(f"{rate:g} in {len(by_rate[rate])}: {listed(by_rate[rate])}" for rate in others)
    return f"its {noun} have {len(by_rate)} frame rates: {most:g} per second in {len(by_rate[most])}; {rest}"


def same_clips(found: Survey, step: Callable[[], None]) -> Iterator[Finding]:
    """Warn about rows whose files are copies of each other.

    Args:
        found: the dataset.
        step: called after each row.
    """
    for sample, path, other in found.copies(step):
        yield warning(
            "duplicate-clip",
            sample.at(path),
            f'is a copy of "{other.origin}"{f" in {other.called}" if other.line else ""}',
            f"Keep one of the {'rows' if other.line else 'files'}, or it counts twice.",
        )
