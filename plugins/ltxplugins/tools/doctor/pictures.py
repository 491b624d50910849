"""Check clips for frames that are not used or are unevenly spaced in time, different frame rates, duplicate clips, and
references of a different shape.
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
"""The share by which two frame rates may differ because media files round differently."""


def examine_pictures(planned: Planned, found: Survey, *, deep: bool) -> Iterator[Finding]:
    """Find what is wrong with the video of a sample.

    Args:
        planned: the sample.
        found: the dataset of the sample.
        deep: whether to decode all frames that are used.
    """
    sample, bucket, infos = planned.sample, planned.bucket, found.infos(planned.sample)
    clip = infos.get("video")
    if bucket is None or clip is None or clip.is_image:
        return
    where, frames, resamples = sample.at(clip.path), clip.frames or 0, found.encoding.rules.resamples
    # Frames that a bucket leaves out matter only if the user chose the bucket.
    options = found.encoding.options
    if options.resolution_buckets and options.windows == "first" and frames > bucket.frames:
        yield warning(
            "unused-frames",
            where,
            f"has {frames} frames, of which the bucket {bucket} uses the first {bucket.frames}",
            "Frame counts are multiples of 8 plus 1: cut the clip where it can end, add a longer bucket, or split it into several clips.",
        )
    if not resamples and clip.is_uneven(planned.end):
        yield from _uneven(where, clip.path, planned.end)
    for column in found.encoding.data.columns.all:
        if column.is_reference_video and column.role in infos:
            yield from _another_shape(sample, clip, infos[column.role])
    if deep:
        if clip.uneven is None or not resamples:
            yield from _decoded(where, clip.path, bucket.frames, sample.start)
        else:  # The frames of a window are counted after resampling, so all frames up to its end are decoded.
            yield from _decoded(where, clip.path, min(planned.end, clip.uneven.frames))


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
        f"the frames last from {min(gaps):.3f} to {max(gaps):.3f} s, but are used as if they were all equally long",
        'Set variable_rate = "resample", or encode the clip again at a constant rate, so that its motion and its sound keep their timing.',
    )


def _another_shape(sample: Sample, clip: MediaInfo, reference: MediaInfo) -> Iterator[Finding]:
    where = sample.at(reference.path)
    if not reference.is_shaped_as(clip):
        yield warning(
            "reference",
            where,
            f"has {reference.width} x {reference.height} pixels, but its clip has {clip.width} x {clip.height}: the aspect ratios differ, "
            "so it is cropped in a different place",
            "Make it from the clip, with the width and height of the clip, or the same fraction of both.",
        )
    if clip.rate and reference.rate and abs(reference.rate / clip.rate - 1) > SAME_RATE:
        yield warning(
            "reference",
            where,
            f"has {float(reference.rate):g} frames per second, but its clip has {float(clip.rate):g}: its frames show different moments",
            "Convert it to the frame rate of its clip.",
        )


def _decoded(where: str, path: Path, frames: int, start: int = 0) -> Iterator[Finding]:
    from ltxcore.api.media import read_clip

    try:
        found = int(read_clip(path, max_frames=frames, start=start).frames.shape[0])
    except DataError as error:
        yield from errors("unreadable", [_at(problem, where) for problem in error.problems])
        return
    if found < frames:
        problem = DataError(
            f"has {found} frame{'' if found == 1 else 's'}, fewer than its header says; {frames} are needed",
            where=where,
            remedy="Encode it again.",
        )
        yield from errors("unreadable", problem.problems)


def _at(problem: Problem, where: str) -> Problem:
    return attrs.evolve(problem, where=where)


def different_rates(found: Survey) -> Iterator[Finding]:
    """Warn about clips with different frame rates in one set."""
    clips = [(sample.origin, found.infos(sample).get("video")) for sample in found.samples if not sample.start]
    rates = [(origin, info.rate) for origin, info in clips if info is not None and info.rate is not None]
    told = rates_told(rates, "clips")
    if told:
        yield warning("different-rates", str(found.encoding.data.path), told, RATES_REMEDY)


RATES_REMEDY = "Each clip is trained at its own rate. If you do not want that, encode the media again at the same rate."


def rates_told(rates: Iterable[tuple[str, Fraction | float]], noun: str) -> str:
    """Say that there are several frame rates, and name the clips with the less common rates; "" if there is only one
    rate.
    """
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
        step: a function that is called after each row.
    """
    for sample, path, other in found.copies(step):
        yield warning(
            "duplicate-clip",
            sample.at(path),
            f'is a copy of "{other.origin}"{f" in {other.called}" if other.line else ""}',
            f"Keep one of the {'rows' if other.line else 'files'}, or it counts twice.",
        )
