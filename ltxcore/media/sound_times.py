"""Where the frames of a sound lie: as their time stamps say, as far as those can be believed, from the first picture that is shown.

A time stamp is a multiple of its container's tick, which in some containers is longer than a sample: a millisecond in Matroska and FLV. So stamps
wobble about the true time although the sound goes on without a break, and only what cannot be such a wobble is a hole or an overlap.
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
"""Packets of pictures among which the one that is shown first is: no codec reorders as many."""

WOBBLE_SECONDS, WOBBLE_TICKS = Fraction(1, 1000), 3
"""Up to how far stamps are off, in seconds or in ticks of the container, where the sound goes on without a break: recorders stamp with a clock that is
not that of the samples, and Matroska's laces round twice."""

SETTLED_SECONDS = Fraction(1, 4)
"""How long a step of no more than that must stay to be one; a wobble comes back sooner."""

BACK_SECONDS, AHEAD_SECONDS = 10, 3600
"""A clock that steps further than this was set anew, as in recordings that were joined byte by byte, and no sound overlaps or is missing."""


@attrs.frozen(eq=False)
class Stamped:
    """A decoded frame of sound: how many samples it has, and at which sample its time stamp says it starts; none: it has no stamp."""

    frame: Any
    length: int
    stated: Fraction | None


@attrs.frozen(eq=False)
class Placed:
    """A frame in its place.

    Attributes:
        frame: as decoded.
        start: the sample that its first one is; before 0: it comes before the pictures do.
        length: its samples.
        is_moved: whether it starts elsewhere than where the frame before ends.
    """

    frame: Any
    start: int
    length: int
    is_moved: bool


class _Ahead:
    """Frames, of which some can be looked at before their turn. None is decoded before it is asked for."""

    def __init__(self, frames: Iterator[Stamped]) -> None:
        self._frames, self._seen = frames, deque[Stamped]()

    def __iter__(self) -> Iterator[Stamped]:
        while True:
            frame = self._seen.popleft() if self._seen else next(self._frames, None)
            if frame is None:
                return
            yield frame

    def next(self, samples: Fraction) -> Iterator[Stamped]:
        """Those that follow, for so many samples."""
        yield from self._seen
        known = sum(frame.length for frame in self._seen)
        while known < samples and (frame := next(self._frames, None)) is not None:
            self._seen.append(frame)
            known += frame.length
            yield frame


def placed(frames: Iterator[Stamped], rate: int, tick: Fraction) -> Iterator[Placed]:
    """Frames where their stamps say. One that is no further from the end of the one before than its stamp may be wrong goes on where that one ends, so
    that rounding neither tears a sound apart nor adds up.

    Args:
        frames: in order.
        rate: samples per second.
        tick: of the time stamps, in samples.
    """
    ahead = _Ahead(frames)
    first = next(iter(ahead), None)
    if first is None:
        return
    slack, wobble = max(Fraction(1), tick), max(WOBBLE_SECONDS * rate, WOBBLE_TICKS * tick)
    # Where the samples since the last move began, exactly, and how many they are; what is added to stamps since the clock was set anew.
    base, count, set_anew = first.stated or Fraction(0), first.length, Fraction(0)
    if base > AHEAD_SECONDS * rate:  # another clock than that of the pictures: no hour of silence is made of it
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
    """Whether the stamps of the frames that follow, the first of which would go on at the sample `expected`, are all off to the same side as `off`."""
    for each in following:
        if each.stated is not None:
            found = each.stated - expected
            if abs(found) <= slack or (found > 0) != (off > 0):
                return False
        expected += each.length
    return True


def _whole_frames(off: Fraction, each: Stamped, before: Stamped, tick: Fraction) -> Fraction:
    """A hole as exact as it can be told: where stamps are coarser than samples and it may be of whole frames, as where packets were lost, it is."""
    count = round(off / before.length) if before.length else 0
    if tick > 1 and count >= 1 and each.length == before.length and abs(off - count * before.length) <= tick:
        return Fraction(count * before.length)
    return off


def in_place(path: Path, container: Any, stream: Any, origin: Fraction | None) -> Iterator[Placed]:
    """The decoded frames of a sound in their places, counted from `origin` in seconds of the container's clock; none: from where the sound starts.

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
                raise damaged(path, "its audio changes rate or channels on the way")
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
    """When the first picture that a file shows is shown, in seconds on its clock; none: it has no pictures.

    That is where its stream starts, but for a stream that starts in the middle of a group of pictures, which cannot be decoded from there.

    Args:
        path: of the file.
        container: the file, open; it is not read from.
    """
    pictures = video_stream(container)
    if pictures is None:
        return None
    if container.format.name == "avi":
        # It has no time stamps of pictures. What FFmpeg gives are guesses, wrong where frames are reordered.
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
    """When the first of the early packets of pictures is shown, where it stands alone and before the others; None: that takes decoding."""
    times = [packet.pts for packet in early if packet.size and packet.pts is not None]
    if times and early[0].is_keyframe and not early[0].is_discard and early[0].pts == min(times):
        return Fraction(early[0].pts) * Fraction(stream.time_base)
    return None


def _alone(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of some streams; those of others are not even read where the container knows where they lie."""
    from av.stream import Discard

    for other in container.streams:
        if other not in streams:
            other.discard = Discard.all
    yield from container.demux(*streams)


_WITHOUT_CLOCK = frozenset({"wav", "w64", "aiff"})
"""Containers of nothing but samples, one after the other."""

IN_TIME = "sound_in_time"
"""The correction of sounds some part of which lies elsewhere than where 0.1.0 put it: each frame after the one before, the first one by its time stamp, and
the pictures where their stream starts."""


def sound_corrections(path: Path, container: Any, *, is_unread: bool = False) -> tuple[str, ...]:
    """What is set right in the sound of a file, by its names in `corrections.CORRECTIONS`.

    Told from the packets where they follow each other evenly, as in almost every file; only where they do not is the sound decoded, up to the first
    difference. What is damaged is left to those who read it.

    Args:
        path: of the file.
        container: the file, open.
        is_unread: whether it was opened `quick` and nobody else reads from it, before or after, so that it need not be opened once more.
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
    """The packets of a sound, and in `early` the first ones of the pictures beside it; no more of them are read."""
    from av.stream import Discard

    for packet in _alone(container, stream, *([] if pictures is None else [pictures])):
        if packet.stream is stream:
            yield packet
        elif len(early) < _EARLY:
            early.append(packet)
        elif pictures is not None:
            pictures.discard = Discard.all


def _is_even(stream: Any, packets: Iterator[Any]) -> bool:
    """Whether each packet starts where the one before ends, if all have as many samples as the codec's frames; false also where that is not known."""
    samples, rate = getattr(stream.codec_context, "frame_size", 0), getattr(stream.codec_context, "sample_rate", 0)
    if not samples or not rate:
        return False
    tick = Fraction(stream.time_base) * rate
    # In whole numbers, of which an hour of sound needs many.
    ticks, parts, slack = tick.numerator, tick.denominator, max(tick.numerator, tick.denominator)
    first, count, is_over = None, 0, False
    for packet in packets:
        if not packet.size or (packet.is_discard and first is None):
            continue
        # What is trimmed is shorter than a frame: at the end that makes no difference, at the beginning none where stamps are as exact as samples.
        is_trimmed = packet.is_discard or packet.has_sidedata("skip_samples")
        if packet.pts is None or is_over or (first is None and is_trimmed and tick > 1):
            return False
        first = packet.pts if first is None else first
        if abs((packet.pts - first) * ticks - count * samples * parts) > slack:
            return False
        count, is_over = count + 1, is_trimmed and count > 0
    return True


def _is_elsewhere(frames: Iterator[Placed], origin: Fraction | None, told: Fraction | None) -> bool:
    """Whether frames lie elsewhere than one after the other from where they were read to start when pictures started where they are `told` to."""
    at = None
    for each in frames:
        if at is None:
            stated = None if told is None else _seconds(each.frame)
            at = 0 if stated is None or told is None else round((stated - told) * int(each.frame.sample_rate))
        if each.start != at:
            return True
        at += each.length
    return False
