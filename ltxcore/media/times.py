"""The times at which the frames of a clip are shown. They are counted from its packets, none of which is decoded,
rather than taken from the container's own claims.

A container may claim too much: an edit list, which a cut without encoding leaves behind, hides frames that its table
counts; an AVI counts empty frames; a decoder gives nothing for frames that refer to what was cut away. It may also
state a rate that its frames do not have.

Frames per second are exact: the rates of television are fractions, which containers and people write as decimals.
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
"""The most by which a frame may last longer than another in a clip of a constant rate, as a factor: film on broadcast
television has frames of two and of three fields.
"""

_LIKE_MOST = Fraction(11, 10)
_ROUNDED = Fraction(1, 1000)
"""The longest ticks, in seconds, that times are rounded to; longer ones are as long as a frame."""
_ABOUT = Fraction(1, 500)
"""The share by which a rate may differ from the stated one: more than the difference of 30 and 30000/1001."""
_WOBBLE = Fraction(1, 2000)
"""The share by which the mean of times given by a clock may be off: half the difference of 30 and 30000/1001."""
_UNSTEADY = Fraction(1, 200)
"""The share by which the mean of times may be off in a clip with a variable frame rate, whose times were not given by a clock."""
_SLOW = 16
_INVISIBLE_IN = "vp8"
_SHOWN_BIT = 1 << 4
"""The bit of a VP8 packet's first byte that marks it as shown: frames that others are only predicted from are packets of their own."""


@attrs.frozen
class Uneven:
    """A clip with a variable frame rate, and what it becomes at a constant one.

    Attributes:
        frames: the number of frames that it shows.
        steady: the number of its first frames that are shown equally long.
        resampled_rate: the frames per second at which most of them are shown.
        resampled_frames: the number of frames after resampling to that rate.
    """

    frames: int
    steady: int
    resampled_rate: Fraction
    resampled_frames: int


@attrs.frozen
class Times:
    """The times at which the shown frames of a clip start, in order of presentation, and at which the last one ends; in
    ticks of `tick` seconds.
    """

    starts: tuple[int, ...]
    end: int
    tick: Fraction

    @property
    def seconds(self) -> Fraction:
        """The seconds from the start of the first frame to the end of the last."""
        return (self.end - self.starts[0]) * self.tick

    def rate(self, told: Fraction | None) -> Fraction | None:
        """Return the frames per second: the container's rate if the frames have it, else the rate of the frames, which
        for an uneven clip is an average.
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
        """The number of first frames that are shown equally long: none longer than `LONGEST` times another, apart from
        the rounding of their times.
        """
        gaps = [end - start for start, end in pairwise(self.starts)]
        rounding = 1 if self.tick <= _ROUNDED else 0
        shortest = longest = gaps[0] if gaps else 0
        for count, gap in enumerate(gaps, 1):
            if shortest <= gap <= longest:  # most are, and comparing exact fractions takes long
                continue
            shortest, longest = min(shortest, gap), max(longest, gap)
            if longest > LONGEST * shortest + rounding:
                return count
        return len(self.starts)

    def usual_rate(self, told: Fraction | None = None, wobble: Fraction = _WOBBLE) -> Fraction:
        """Compute the frames per second from the median duration of a frame, averaged over all frames that last about
        as long. The container's rate or one that cameras have replaces it, if rounding allows it or the two differ by
        no more than the share `wobble`.
        """
        gaps = sorted(end - start for start, end in pairwise(self.starts))
        median = max(1, _median(gaps))
        alike = [gap for gap in gaps if median <= _LIKE_MOST * gap and gap <= _LIKE_MOST * median] or [median]
        mean = Fraction(sum(alike), len(alike)) * self.tick
        if alike[0] == alike[-1]:
            return 1 / mean
        rounding = self.tick / len(alike)
        likely = [*([told] if told else ()), *_plain_rates(1 / mean)]
        # The first of those that rounding does not tell apart, else the nearest.
        nearest = min(likely, key=lambda rate: max(rounding, abs(1 / rate - mean)))
        return nearest if abs(1 / nearest - mean) <= max(rounding, wobble * mean) else 1 / mean

    def repeats(self, rate: Fraction) -> tuple[int, ...]:
        """Count how often each frame is shown when the clip is resampled to a constant rate: each moment shows the
        latest frame that has begun, with times rounded to the nearest, as in FFmpeg's filter `fps`.

        Source: docs/explanation/arithmetic.md#frames-at-a-constant-rate
        """
        marks = [_nearest((tick - self.starts[0]) * self.tick * rate) for tick in (*self.starts, self.end)]
        return tuple(after - before for before, after in pairwise(marks))

    @property
    def uneven(self) -> Uneven | None:
        """The clip as it becomes at a constant rate; None if its frames are shown equally long already."""
        count, steady = len(self.starts), self.steady
        if steady == count:
            return None
        rate = self.usual_rate(wobble=_UNSTEADY)
        return Uneven(count, steady, rate, max(1, sum(self.repeats(rate))))


def _plain_rates(rate: Fraction) -> list[Fraction]:
    """List the usual rates nearest to a rate: a whole number, a multiple of one half if the rate is low, and 1000/1001
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
    """The times at which the frames of a clip are shown, as far as they are known or chosen.

    Attributes:
        rate: the frames per second; None for those of the file, as `shown_frames` finds them.
        repeats: how often each frame of the file is returned, 0 for not at all; None for each once.
    """

    rate: Fraction | None = None
    repeats: tuple[int, ...] | None = None


@attrs.frozen
class Shown:
    """The shown frames of a clip: how many there are, and when they are shown; None if its packets do not say when."""

    frames: int
    times: Times | None


def shown_frames(path: Path) -> tuple[Shown, Fraction]:
    """Find the frames that a clip shows, and how many there are per second, from the tables of MP4 and MOV files and
    from the packets of others.

    Raises:
        DataError: it cannot be read, has no pictures, or does not say how many frames per second it has.
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
    """Find the shown frames like `shown_frames`, in an open file. Its packets are read, unless its tables say how many
    frames it has.

    Raises:
        DataError: as `shown_frames`.
    """
    shown = (table_of(stream) or _counted_anew(path)) if counts_its_frames(container) else counted(path, container, stream)
    told = told_rate(stream)
    rate = told if shown.times is None else shown.times.rate(told)
    if rate is None:
        raise DataError(
            "this clip does not say how many frames per second it has", where=str(path), remedy="Encode it again at a constant rate."
        )
    return shown, rate


def told_rate(stream: Any) -> Fraction | None:
    """Return the frames per second that the container states: its average, else the rate that its time base suggests;
    None if it states none.
    """
    rate = stream.average_rate or stream.base_rate or stream.guessed_rate
    return Fraction(rate) if rate else None


def table_of(stream: Any) -> Shown | None:
    """Find the shown frames in the table of an MP4 or MOV file; the table has no presentation times, but shows whether
    packets are evenly spaced. None if the packets must be read, since the table leaves frames out or spaces them
    unevenly.
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
    """Find the shown frames by the packets of a stream, all of which are read.

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
    """Remove the frames before the first one that a decoder returns: in a cut stream, some refer to frames that were cut away."""
    with opened(path) as container:
        stream = video_stream(container)
        frame = next(frames_of(path, container, stream), None)
    if frame is None:
        return []
    return list(starts) if frame.pts is None else [start for start in starts if start >= frame.pts]


def _times(starts: Sequence[int], lasts: Mapping[int, int], tick: Fraction) -> Times:
    """Return the times of frames that start at `starts`, in order; the last one ends after its own duration, or, if it
    states none, after the median one.
    """
    last, gaps = starts[-1], sorted(after - before for before, after in pairwise(starts))
    return Times(tuple(starts), last + (lasts.get(last) or (max(1, _median(gaps)) if gaps else 1)), tick)


_TELEVISION = Fraction(1000, 1001)
_USUAL = frozenset({12, 15, 24, 30, 48, 60, 120, 240})
"""The whole rates whose television counterparts (1000/1001 of them) people also write with two decimals, such as 23.98."""
_FASTEST = 300
_THREE_DECIMALS = Fraction(1, 2000)
_MICROSECONDS = Fraction(1, 2_000_000)
_FINEST = 10_000
"""The largest denominator of a rate that is known only as a float."""


def exact_rate(rate: float | Fraction) -> Fraction:
    """Return the exact frames per second that a possibly rounded rate means: 24000/1001 for 23.976 and 23.98,
    30000/1001 for 29.97.

    A rate is taken for N x 1000/1001 if it is that rounded to three decimals, or to a whole number of microseconds
    between frames (as in AVI), or, for the usual rates, to two decimals. Any other fraction is returned as it is, and
    any other float as the nearest fraction.
    """
    found = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(_FINEST) or Fraction(rate)
    whole = round(found / _TELEVISION)
    if found.denominator == 1 or not 1 <= whole <= _FASTEST:
        return found
    television = whole * _TELEVISION
    two_decimals = whole in _USUAL and round(found, 4) == round(television, 2)
    near = abs(found - television) <= _THREE_DECIMALS or abs(1 / found - 1 / television) <= _MICROSECONDS
    return television if two_decimals or near else found
