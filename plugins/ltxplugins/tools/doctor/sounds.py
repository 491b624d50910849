"""Check for audio that is silent, mono or clipped, has gaps or values that are not numbers, or differs in length from
its video.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import DataError, Problem, Sound
from ltxplugins.tools.doctor.findings import Finding, errors, warning

if TYPE_CHECKING:
    from ltxcore.api.dataset import Planned, Survey
    from ltxcore.api.media import Gap

SILENT = 1e-3
"""The peak amplitude below which audio counts as silent: -60 dB of full scale."""

FULL, CLIPPED = 0.999, 1e-3
"""The amplitude at which an audio sample counts as clipped, and the share of such samples at which the whole audio
does. A single peak is not a fault.
"""


HOLES = 0.05
"""The total length of gaps and overlaps, in seconds, at which audio counts as incomplete. Shorter gaps are heard as a
click at most, and do not noticeably shift the audio against the video.
"""


def examine_sounds(planned: Planned, found: Survey) -> Iterator[Finding]:
    """Find what is wrong with the part of a sample's audio that is used.

    Args:
        planned: the sample.
        found: the dataset of the sample.
    """
    sample = planned.sample
    if "audio_latents" in planned.folders:
        yield from _heard(sample.at(sample.sound), sample.sound, found.start(planned), planned.duration, beside=planned.bucket is not None)
        yield from _goes_on(planned, found) if not sample.start else ()
    for column in found.encoding.rules.made_from(sample, "latents", "audio"):
        if column.folder in planned.folders:
            path = sample.media[column.role]
            yield from _heard(sample.at(path), path, found.start(planned), planned.duration, beside=False)


def _heard(where: str, path: Path, start: Fraction, duration: Fraction | None, beside: bool) -> Iterator[Finding]:
    """Find what is wrong with `duration` seconds of a file's audio, beginning at `start` seconds. Audio `beside` a video must be at least as
    long as the part of the video that is used.
    """
    from ltxcore.api.dataset import SOUND_MARGIN
    from ltxcore.api.media import read_with_gaps

    skip, end = math.floor(start), None if duration is None else start + duration
    try:
        sound, gaps = read_with_gaps(path, max_duration=None if end is None else float(end) + SOUND_MARGIN, skip=skip)
    except DataError as error:
        yield from errors("unreadable", [attrs.evolve(problem, where=where) for problem in error.problems])
        return
    if not bool(sound.samples.isfinite().all()):
        yield from errors("sound", [Problem("the audio has NaN or infinite values", where, "Encode it again.")])
        return
    sound = Sound(sound.samples[:, math.floor((start - skip) * sound.rate) :], sound.rate)
    if sound.samples.shape[1]:
        yield from _levels(where, sound)
    yield from _whole(where, [gap for gap in gaps if start <= gap.at and (end is None or gap.at < end)])
    missing = 0.0 if duration is None else float(duration) - sound.duration
    if beside and missing > SOUND_MARGIN:
        yield warning(
            "sound-length",
            where,
            f"the audio ends {missing:.3f} s before the {float(duration or 0):.3f} s of video that are used, and is padded with silence",
            "Name a sound that is as long as the clip, or cut the clip where its sound ends.",
        )


def _levels(where: str, sound: Sound) -> Iterator[Finding]:
    amplitude = sound.samples.abs()
    if float(amplitude.max()) < SILENT:
        yield warning(
            "silent-sound",
            where,
            "the audio is silent: no sample is above -60 dB of full scale",
            'Name another sound in a column "audio", leave the row out, or set skip_audio.',
        )
    elif float((amplitude >= FULL).float().mean()) > CLIPPED:
        share = float((amplitude >= FULL).float().mean())
        yield warning(
            "clipped-sound",
            where,
            f"the audio is clipped: {100 * share:.1f} % of its samples are at full scale",
            "Use a recording with a lower level; lowering the level of a clipped recording does not repair it.",
        )
    if sound.samples.shape[0] == 1:
        yield warning(
            "mono-sound",
            where,
            "the audio has one channel",
            "Training uses it for both left and right. Name stereo audio if you have any.",
        )


def _whole(where: str, gaps: Sequence[Gap]) -> Iterator[Finding]:
    holes = [gap.seconds for gap in gaps if gap.seconds > 0]
    overlaps = [-gap.seconds for gap in gaps if gap.seconds < 0]
    if sum(holes) + sum(overlaps) < HOLES - 1e-9:
        return
    parts = []
    if holes:
        parts.append(f"{_counted(holes, 'gap')}, filled with silence")
    if overlaps:
        parts.append(f"{_counted(overlaps, 'overlap')}, whose later part is left out")
    yield warning(
        "sound-holes",
        where,
        f"the audio has {'; and '.join(parts)}; the first at {gaps[0].at:.3f} s",
        "Listen to it there, and leave the clip out or record it again if the missing part matters. Everything after it keeps its timing.",
    )


def _counted(seconds: Sequence[float], noun: str) -> str:
    return f"{len(seconds)} {noun}{'' if len(seconds) == 1 else 's'} of {sum(seconds):.3f} s{'' if len(seconds) == 1 else ' in all'}"


def _goes_on(planned: Planned, found: Survey) -> Iterator[Finding]:
    """Warn about a separate audio file that is longer than its clip."""
    from ltxcore.api.dataset import SOUND_MARGIN

    sample, infos = planned.sample, found.infos(planned.sample)
    own, clip = infos.get("audio"), infos.get("video")
    if own is None or clip is None or planned.bucket is None:
        return
    if own.duration is not None and clip.duration is not None and own.duration - clip.duration > SOUND_MARGIN:
        yield warning(
            "sound-length",
            sample.at(own.path),
            f"lasts {own.duration:.3f} s, but its clip lasts {clip.duration:.3f} s: the rest is left out",
            "Cut it to the length of its clip, and check that both start together.",
        )
