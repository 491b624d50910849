"""The times at which the frames of a clip are shown. They are counted from packets, without decoding, rather than taken from the
container's claims.

A container may claim too many frames. Cutting without encoding leaves an edit list, which hides frames that the table counts. An AVI counts
empty frames. A decoder returns nothing for frames that refer to frames which were cut away. A container may also state a rate that its
frames do not have.

Frames per second are exact, since the rates of television are fractions, which containers and people write as decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import DataError
from ltxcore.media.container import counts_its_frames, frames_of, opened, packets_of, video_stream

LONGEST = Fraction(3, 2)
"""The largest ratio of two frames' durations in a clip with a constant rate. Film on broadcast television has frames of two fields and of
three fields.
"""

_LIKE_MOST = Fraction(11, 10)
_ROUNDED = Fraction(1, 1000)
"""The longest tick, in seconds, that counts as rounding; a longer tick is about as long as a frame."""
_ABOUT = Fraction(1, 500)
"""The share by which a rate may differ from the stated rate. It is more than the difference between 30 and 30000/1001."""
_WOBBLE = Fraction(1, 2000)
"""The share by which the mean of times from a clock may be off. It is half the difference between 30 and 30000/1001."""
_UNSTEADY = Fraction(1, 200)
"""The share by which the mean of times may be off in a clip with a variable frame rate, where times do not come from a clock."""
_SLOW = 16
_INVISIBLE_IN = "vp8"
_SHOWN_BIT = 1 << 4
"""The bit in the first byte of a VP8 packet which says that its frame is shown. Frames that only serve to predict others have packets
too.
"""


@attrs.frozen
class Uneven:
    """A clip with a variable frame rate, and its properties at a constant rate.

    Attributes:
        frames: the number of frames that the clip shows.
        steady: the number of frames at the beginning that are shown equally long.
        resampled_rate: the frames per second at which most frames are shown.
        resampled_frames: the number of frames after resampling to that rate.
    """

    frames: int
    steady: int
    resampled_rate: Fraction
    resampled_frames: int


@attrs.frozen
class Times:
    """The times at which the shown frames of a clip start, in order of presentation, and at which the last one ends, in ticks of `tick`
    seconds.
    """

    starts: tuple[int, ...]
    end: int
    tick: Fraction

    @property
    def seconds(self) -> Fraction:
        """The seconds from the start of the first frame to the end of the last frame."""
        return (self.end - self.starts[0]) * self.tick

    def rate(self, told: Fraction | None) -> Fraction | None:
        """Return the frames per second.

        This is the container's rate if the frames have it, or else the rate of the frames, which is an average for an uneven clip.
        """
        count, steady = len(self.starts), self.steady
        if count < 2 or self.seconds <= 0:
            return told
        if told and 2 * steady >= count and self._is_about(told, steady):
            return told
        if steady == count:
            return self.usual_rate(told)
        missed = abs(count / told - self.seconds) if told else self.seconds
        return told if told and missed <= 1 / told else count / self.seconds

    def _is_about(self, rate: Fraction, count: int) -> bool:
        """Return whether the first `count` frames have this rate."""
        if count < 2:
            return False
        mean = Fraction(self.starts[count - 1] - self.starts[0], count - 1) * self.tick
        return abs(1 / rate - mean) <= self.tick / (count - 1) + _ABOUT * mean

    @property
    def steady(self) -> int:
        """The number of frames at the beginning that are shown equally long: apart from rounding, none is shown more than `LONGEST` times
        as long as another.
        """
        gaps = [end - start for start, end in pairwise(self.starts)]
        rounding = 1 if self.tick <= _ROUNDED else 0
        shortest = longest = gaps[0] if gaps else 0
        for count, gap in enumerate(gaps, 1):
            if shortest <= gap <= longest:  # this is true for most, and comparing exact fractions takes long
                continue
            shortest, longest = min(shortest, gap), max(longest, gap)
            if longest > LONGEST * shortest + rounding:
                return count
        return len(self.starts)

    def usual_rate(self, told: Fraction | None = None, wobble: Fraction = _WOBBLE) -> Fraction:
        """Compute the frames per second from the mean duration of all frames that last about as long as the median.

        The container's rate or a usual rate of cameras replaces the result if rounding explains the difference, or if the difference is at
        most the share `wobble`.
        """
        gaps = sorted(end - start for start, end in pairwise(self.starts))
        median = max(1, _median(gaps))
        alike = [gap for gap in gaps if median <= _LIKE_MOST * gap and gap <= _LIKE_MOST * median] or [median]
        mean = Fraction(sum(alike), len(alike)) * self.tick
        if alike[0] == alike[-1]:
            return 1 / mean
        rounding = self.tick / len(alike)
        likely = [*([told] if told else ()), *_plain_rates(1 / mean)]
        # This is the first of the rates that rounding cannot tell apart, or else the nearest rate.
        nearest = min(likely, key=lambda rate: max(rounding, abs(1 / rate - mean)))
        return nearest if abs(1 / nearest - mean) <= max(rounding, wobble * mean) else 1 / mean

    def repeats(self, rate: Fraction) -> tuple[int, ...]:
        """Count how often each frame is shown when the clip is resampled to a constant rate.

        At each moment, the latest frame that has begun is shown, with times rounded to the nearest, as in FFmpeg's filter `fps`.

        Source: docs/explanation/arithmetic.md#frames-at-a-constant-rate
        """
        marks = [_nearest((tick - self.starts[0]) * self.tick * rate) for tick in (*self.starts, self.end)]
        return tuple(after - before for before, after in pairwise(marks))

    @property
    def uneven(self) -> Uneven | None:
        """The properties of the clip at a constant rate; None if its frames are already shown equally long."""
        count, steady = len(self.starts), self.steady
        if steady == count:
            return None
        rate = self.usual_rate(wobble=_UNSTEADY)
        return Uneven(count, steady, rate, max(1, sum(self.repeats(rate))))


def _plain_rates(rate: Fraction) -> list[Fraction]:
    """List the usual rates nearest to a rate: the nearest whole number, the nearest multiple of one half if the rate is low, and 1000/1001
    of a whole number, as in television.
    """
    whole, half, film = round(rate), Fraction(round(2 * rate), 2), round(rate * 1001 / 1000) * Fraction(1000, 1001)
    return [found for found in (Fraction(whole), half if rate < _SLOW else Fraction(), film) if found]


def _median(ordered: Sequence[int]) -> int:
    return ordered[(len(ordered) - 1) // 2]


def _nearest(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@attrs.frozen
class Timing:
    """The times at which the frames of a clip are to be shown, as far as they are chosen.

    Attributes:
        rate: the frames per second; None for the file's rate, as `shown_frames` finds it.
        repeats: how often each frame of the file is returned; None means that each is returned once.
    """

    rate: Fraction | None = None
    repeats: tuple[int, ...] | None = None


@attrs.frozen
class Shown:
    """The number of frames that a clip shows, and their times (None if they are not known from the packets)."""

    frames: int
    times: Times | None


def shown_frames(path: Path) -> tuple[Shown, Fraction]:
    """Find the frames that a clip shows, and their number per second, from the tables of MP4 and MOV files and from the packets of other
    files.

    Raises:
        DataError: the clip cannot be read, has no pictures, or does not state its frames per second.
    """
    with opened(path, quick=True) as container:
        if counts_its_frames(container):
            return shown_in(path, container, video_stream(container))
    with opened(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise DataError("this file has no video", where=str(path), remedy="Name a clip or an image.")
        return shown_in(path, container, stream)


def shown_in(path: Path, container: Any, stream: Any) -> tuple[Shown, Fraction]:
    """Find the shown frames as `shown_frames` does, but in a file that is already open. Packets are read unless tables state the number of
    frames.

    Raises:
        DataError: as in `shown_frames`.
    """
    shown = (table_of(stream) or _counted_anew(path)) if counts_its_frames(container) else counted(path, container, stream)
    told = told_rate(stream)
    rate = told if shown.times is None else shown.times.rate(told)
    if rate is None:
        raise DataError(
            "this clip does not say how many frames per second it has",
            where=str(path),
            remedy="Encode the clip again at a constant frame rate.",
        )
    return shown, rate


def told_rate(stream: Any) -> Fraction | None:
    """Return the frames per second that the container states as an average, or else the rate that its time base suggests; None if there is
    neither.
    """
    rate = stream.average_rate or stream.base_rate or stream.guessed_rate
    return Fraction(rate) if rate else None


def table_of(stream: Any) -> Shown | None:
    """Find the shown frames in the table of an MP4 or MOV file.

    The table has no presentation times, but shows whether packets are evenly spaced. The result is None if the table leaves frames out or
    spaces them unevenly; the packets must then be read.
    """
    entries = stream.index_entries
    stamps = [] if len(entries) != stream.frames else sorted(entry.timestamp for entry in entries if not entry.is_discard)
    if len(stamps) != stream.frames or stream.time_base is None:
        return None
    times = _times(stamps, {}, Fraction(stream.time_base))
    return Shown(len(stamps), None) if times.steady == len(stamps) else None


def _counted_anew(path: Path) -> Shown:
    with opened(path, quick=True) as container:
        return counted(path, container, video_stream(container))


def counted(path: Path, container: Any, stream: Any) -> Shown:
    """Find the shown frames by reading all packets of a stream.

    Raises:
        DataError: a packet is incomplete, or the first frames do not decode.
    """
    lasts: dict[int, int] = {}
    starts: list[int] = []
    count, key = 0, None
    for packet in packets_of(path, container, stream):
        if key is None and packet.is_keyframe:
            key = packet.pts
        if _is_shown(packet, stream):
            count += 1
            if packet.pts is not None:
                starts.append(packet.pts)
                lasts[packet.pts] = packet.duration or 0
    if not count or len(starts) < count or stream.time_base is None:
        return Shown(count, None)
    starts.sort()
    if key is not None and starts[0] < key:
        starts = _decodable(path, starts)
    return Shown(len(starts), _times(starts, lasts, Fraction(stream.time_base)) if starts else None)


def _is_shown(packet: Any, stream: Any) -> bool:
    if not packet.size or packet.is_discard:
        return False
    return stream.codec_context.name != _INVISIBLE_IN or bool(memoryview(packet)[0] & _SHOWN_BIT)


def _decodable(path: Path, starts: Sequence[int]) -> list[int]:
    """Remove the frames before the first one that a decoder returns, since the first frames of a cut stream may refer to frames that were
    cut away.
    """
    with opened(path) as container:
        stream = video_stream(container)
        frame = next(frames_of(path, container, stream), None)
    if frame is None:
        return []
    return list(starts) if frame.pts is None else [start for start in starts if start >= frame.pts]


def _times(starts: Sequence[int], lasts: Mapping[int, int], tick: Fraction) -> Times:
    """Return the times of frames that start at `starts`, in order. The last frame ends after its stated duration, or else after the median
    duration.
    """
    last, gaps = starts[-1], sorted(after - before for before, after in pairwise(starts))
    return Times(tuple(starts), last + (lasts.get(last) or (max(1, _median(gaps)) if gaps else 1)), tick)


_TELEVISION = Fraction(1000, 1001)
_USUAL = frozenset({12, 15, 24, 30, 48, 60, 120, 240})
"""The whole rates for which people also write 1000/1001 of the rate, as used in television, with two decimals, such as 23.98."""
_FASTEST = 300
_THREE_DECIMALS = Fraction(1, 2000)
_MICROSECONDS = Fraction(1, 2_000_000)
_FINEST = 10_000
"""The largest denominator of the fraction for a rate that is known only as a float."""


def exact_rate(rate: float | Fraction) -> Fraction:
    """Return the exact frames per second that a possibly rounded rate stands for, such as 24000/1001 for 23.976 and 23.98, and 30000/1001
    for 29.97.

    A rate stands for N x 1000/1001 if it equals this number rounded to three decimals, or to a whole number of microseconds between frames
    (as in AVI), or, for the usual rates, to two decimals. Any other fraction is returned unchanged, and any other float as the nearest
    fraction.
    """
    found = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(_FINEST) or Fraction(rate)
    whole = round(found / _TELEVISION)
    if found.denominator == 1 or not 1 <= whole <= _FASTEST:
        return found
    television = whole * _TELEVISION
    two_decimals = whole in _USUAL and round(found, 4) == round(television, 2)
    near = abs(found - television) <= _THREE_DECIMALS or abs(1 / found - 1 / television) <= _MICROSECONDS
    return television if two_decimals or near else found
