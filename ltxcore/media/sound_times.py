"""The places of audio frames in time, counted from the first picture that is shown. Time stamps decide, as far as they
can be believed.

A time stamp is a multiple of its container's tick, which in some containers is longer than a sample: a millisecond in
Matroska and FLV. So stamps wobble around the true time although the audio goes on without a break, and only what cannot
be such a wobble is a hole or an overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import DataError
from ltxcore.media.container import audio_stream, blaming, damaged, frames_of, is_mp4, opened, start_seconds, video_stream

_EARLY = 32
"""The number of video packets among which the one shown first must be, since no codec reorders so many."""

WOBBLE_SECONDS, WOBBLE_TICKS = Fraction(1, 1000), 3
"""The largest error of time stamps, in seconds or in ticks of the container, in audio without a break: recorders stamp
with a clock that is not that of the samples, and Matroska's laces round twice.
"""

SETTLED_SECONDS = Fraction(1, 4)
"""The seconds that a step within that error must last to count as a step; a wobble reverts sooner."""

BACK_SECONDS, AHEAD_SECONDS = 10, 3600
"""The seconds beyond which a step of the clock means that the clock was reset, as in recordings that were joined byte
by byte, rather than that audio overlaps or is missing.
"""


@attrs.frozen(eq=False)
class Stamped:
    """A decoded audio frame: how many samples it has, and the sample at which its time stamp says it starts; None if it has no stamp."""

    frame: Any
    length: int
    stated: Fraction | None


@attrs.frozen(eq=False)
class Placed:
    """An audio frame in its place.

    Attributes:
        frame: the decoded frame.
        start: the position of its first sample, in samples; below 0 if it comes before the pictures do.
        length: the number of its samples.
        is_moved: whether it starts somewhere other than where the frame before ends.
    """

    frame: Any
    start: int
    length: int
    is_moved: bool


class _Ahead:
    """An iterator over frames that allows looking at some before their turn. No frame is decoded before it is asked for."""

    def __init__(self, frames: Iterator[Stamped]) -> None:
        self._frames, self._seen = frames, deque[Stamped]()

    def __iter__(self) -> Iterator[Stamped]:
        while True:
            frame = self._seen.popleft() if self._seen else next(self._frames, None)
            if frame is None:
                return
            yield frame

    def next(self, samples: Fraction) -> Iterator[Stamped]:
        """Look ahead at the frames that follow, up to this many samples."""
        yield from self._seen
        known = sum(frame.length for frame in self._seen)
        while known < samples and (frame := next(self._frames, None)) is not None:
            self._seen.append(frame)
            known += frame.length
            yield frame


def placed(frames: Iterator[Stamped], rate: int, tick: Fraction) -> Iterator[Placed]:
    """Put frames where their stamps say. A frame starts at the end of the one before if its stamp differs from that by
    no more than stamps may be wrong, so that rounding neither tears audio apart nor adds up.

    Args:
        frames: the frames, in order.
        rate: the samples per second.
        tick: the tick of the time stamps, in samples.
    """
    ahead = _Ahead(frames)
    first = next(iter(ahead), None)
    if first is None:
        return
    slack, wobble = max(Fraction(1), tick), max(WOBBLE_SECONDS * rate, WOBBLE_TICKS * tick)
    # The exact start of the samples since the last move, and their number; and what is added to stamps since the clock was reset.
    base, count, set_anew = first.stated or Fraction(0), first.length, Fraction(0)
    if base > AHEAD_SECONDS * rate:  # a clock other than that of the pictures, which must not turn into an hour of silence
        base, set_anew = Fraction(0), -base
    yield Placed(first.frame, round(base), first.length, is_moved=False)
    before, off_before = first, Fraction(0)
    for each in ahead:
        off = Fraction(0) if each.stated is None else each.stated + set_anew - base - count
        if not -BACK_SECONDS * rate <= off <= AHEAD_SECONDS * rate:
            set_anew, off = set_anew - off, Fraction(0)
        is_moved = abs(off) > wobble
        if slack < abs(off) <= wobble and abs(off - off_before) > max(Fraction(1), tick / 2):
            is_moved = _stays(ahead.next(SETTLED_SECONDS * rate), base + count + each.length - set_anew, off, slack)
        if is_moved:
            base, count, off = base + count + _whole_frames(off, each, before, tick), 0, Fraction(0)
        yield Placed(each.frame, round(base) + count, each.length, is_moved)
        count, before, off_before = count + each.length, each, off


def _stays(following: Iterator[Stamped], expected: Fraction, off: Fraction, slack: Fraction) -> bool:
    """Return whether the stamps of the frames that follow are all off to the same side as `off`; the first of these
    frames would continue at the sample `expected`.
    """
    for each in following:
        if each.stated is not None:
            found = each.stated - expected
            if abs(found) <= slack or (found > 0) != (off > 0):
                return False
        expected += each.length
    return True


def _whole_frames(off: Fraction, each: Stamped, before: Stamped, tick: Fraction) -> Fraction:
    """Make the length of a hole as exact as possible: if stamps are coarser than samples and the hole may be a whole
    number of frames, as after lost packets, it is rounded to one.
    """
    count = round(off / before.length) if before.length else 0
    if tick > 1 and count >= 1 and each.length == before.length and abs(off - count * before.length) <= tick:
        return Fraction(count * before.length)
    return off


def in_place(path: Path, container: Any, stream: Any, origin: Fraction | None) -> Iterator[Placed]:
    """Decode the frames of an audio stream into their places, counted from `origin` in seconds of the container's
    clock, or from where the audio starts if it is None.

    Raises:
        DataError: they do not decode, or change their rate or channels.
    """
    frames = frames_of(path, container, stream)
    first = next(frames, None)
    if first is None:
        return
    rate, channels = int(first.sample_rate), int(first.layout.nb_channels)

    def stamped() -> Iterator[Stamped]:
        begin, count = origin, 0
        for frame in chain([first], frames):
            if int(frame.sample_rate) != rate or int(frame.layout.nb_channels) != channels:
                raise damaged(path, "its audio changes its rate or channels part of the way through")
            seconds = _seconds(frame)
            if begin is None and seconds is not None:
                begin = seconds - Fraction(count, rate)
            stated = None if seconds is None or begin is None else (seconds - begin) * rate
            yield Stamped(frame, int(frame.samples), stated)
            count += int(frame.samples)

    yield from placed(stamped(), rate, Fraction(stream.time_base or 0) * rate)


def _seconds(frame: Any) -> Fraction | None:
    return None if frame.pts is None else Fraction(frame.pts) * Fraction(frame.time_base)


def first_shown(path: Path, container: Any) -> Fraction | None:
    """Return the time at which the first shown picture of a file appears, in seconds on the file's clock; None if it
    has no pictures.

    The time is that of the stream's start, unless the stream starts in the middle of a group of pictures, which cannot
    be decoded from there.

    Args:
        path: the file.
        container: the file, open; it is not read from.
    """
    pictures = video_stream(container)
    if pictures is None:
        return None
    if container.format.name == "avi":
        # The container has no time stamps for pictures. FFmpeg guesses them, wrongly where frames are reordered.
        return start_seconds(pictures)
    with suppress(DataError), opened(path, quick=is_mp4(container)) as again:
        stream = video_stream(again)
        if stream is not None and stream.codec_context is not None and (found := _first_of(again, stream)) is not None:
            return found
    return start_seconds(pictures)


def _first_of(container: Any, stream: Any) -> Fraction | None:
    packets = _alone(container, stream)
    early = list(islice(packets, _EARLY))
    if (stated := _stated_first(early, stream)) is not None:
        return stated
    frames = (frame for packet in chain(early, packets) for frame in packet.decode())
    first = next(frames, None)
    return None if first is None else _seconds(first)


def _stated_first(early: Sequence[Any], stream: Any) -> Fraction | None:
    """Return when the first of the early video packets is shown, if it can be decoded alone and comes before the
    others; None if that takes decoding to know.
    """
    times = [packet.pts for packet in early if packet.size and packet.pts is not None]
    if times and early[0].is_keyframe and not early[0].is_discard and early[0].pts == min(times):
        return Fraction(early[0].pts) * Fraction(stream.time_base)
    return None


def _alone(container: Any, *streams: Any) -> Iterator[Any]:
    """Read the packets of some streams; those of others are not even read if the container knows where they lie."""
    from av.stream import Discard

    for other in container.streams:
        if other not in streams:
            other.discard = Discard.all
    yield from container.demux(*streams)


_WITHOUT_CLOCK = frozenset({"wav", "w64", "aiff"})
"""The containers that hold nothing but samples, one after the other."""

IN_TIME = "sound_in_time"
"""The correction of audio that 0.1.0 placed wrongly, at least in part: it put each frame after the one before, the
first one by its time stamp, and the pictures at the start of their stream.
"""


def sound_corrections(path: Path, container: Any, *, is_unread: bool = False) -> tuple[str, ...]:
    """Find the corrections that apply to the audio of a file, by their names in `encode.outdated.CORRECTIONS`.

    If packets follow each other evenly, as in almost every file, they are enough to tell; otherwise the audio is
    decoded, up to the first difference. Damage is left to be reported when the file is read.

    Args:
        path: the file.
        container: the file, open.
        is_unread: whether it was opened `quick` and nothing else reads from it, before or after, so that it need not be
            opened again.
    """
    if audio_stream(container) is None or container.format.name in _WITHOUT_CLOCK:
        return ()
    is_even, told, first, knows = False, None, None, is_mp4(container)
    with suppress(DataError), blaming(path), nullcontext(container) if is_unread else opened(path, quick=knows) as again:
        stream, pictures, early = audio_stream(again), video_stream(again), list[Any]()
        told = None if pictures is None else start_seconds(pictures)
        is_even = _is_even(stream, _sound(again, stream, pictures if knows else None, early))
        first = _stated_first(early, pictures) if is_even else None
    if (origin := first_shown(path, container) if first is None else first) == told and is_even:
        return ()
    with suppress(DataError), opened(path) as again:
        stream, pictures = audio_stream(again), video_stream(again)
        told = None if pictures is None else start_seconds(pictures)
        if _is_elsewhere(in_place(path, again, stream, origin), origin, told):
            return (IN_TIME,)
    return ()


def _sound(container: Any, stream: Any, pictures: Any | None, early: list[Any]) -> Iterator[Any]:
    """Read the packets of an audio stream, and collect in `early` the first packets of the video; no more video packets
    than those are read.
    """
    from av.stream import Discard

    for packet in _alone(container, stream, *([] if pictures is None else [pictures])):
        if packet.stream is stream:
            yield packet
        elif len(early) < _EARLY:
            early.append(packet)
        elif pictures is not None:
            pictures.discard = Discard.all


def _is_even(stream: Any, packets: Iterator[Any]) -> bool:
    """Return whether each packet starts where the one before ends, if all have as many samples as the codec's frames;
    also False if that is not known.
    """
    samples, rate = getattr(stream.codec_context, "frame_size", 0), getattr(stream.codec_context, "sample_rate", 0)
    if not samples or not rate:
        return False
    tick = Fraction(stream.time_base) * rate
    # In whole numbers, since an hour of audio needs many of them.
    ticks, parts, slack = tick.numerator, tick.denominator, max(tick.numerator, tick.denominator)
    first, count, is_over = None, 0, False
    for packet in packets:
        if not packet.size or (packet.is_discard and first is None):
            continue
        # Less than a frame is trimmed: that makes no difference at the end, nor at the beginning if stamps are as exact as samples.
        is_trimmed = packet.is_discard or packet.has_sidedata("skip_samples")
        if packet.pts is None or is_over or (first is None and is_trimmed and tick > 1):
            return False
        first = packet.pts if first is None else first
        if abs((packet.pts - first) * ticks - count * samples * parts) > slack:
            return False
        count, is_over = count + 1, is_trimmed and count > 0
    return True


def _is_elsewhere(frames: Iterator[Placed], origin: Fraction | None, told: Fraction | None) -> bool:
    """Return whether frames lie elsewhere than where 0.1.0 put them: one after the other, starting where it took them
    to start if the pictures start at `told`.
    """
    at = None
    for each in frames:
        if at is None:
            stated = None if told is None else _seconds(each.frame)
            at = 0 if stated is None or told is None else round((stated - told) * int(each.frame.sample_rate))
        if each.start != at:
            return True
        at += each.length
    return False
