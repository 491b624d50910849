"""The positions of audio frames in time, counted from the first picture that is shown. They follow time stamps, as far as these are
plausible.

A time stamp is a multiple of the container's tick, which may be longer than a sample, such as a millisecond in Matroska and FLV. The stamps
of audio without a break therefore wobble around the true times, and only a larger difference counts as a hole or an overlap.
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
"""The number of first video packets that must include the one shown first, since no codec reorders that many."""

WOBBLE_SECONDS, WOBBLE_TICKS = Fraction(1, 1000), 3
"""The largest error of time stamps in audio without a break, in seconds or in ticks of the container. Recorders do not take stamps from the
clock of the samples, and Matroska's laces are rounded twice.
"""

SETTLED_SECONDS = Fraction(1, 4)
"""The seconds that a step within the largest error must last to count as a step; a wobble reverts sooner."""

BACK_SECONDS, AHEAD_SECONDS = 10, 3600
"""The seconds, backwards and ahead, beyond which a step in the stamps means that the clock was reset, as in recordings that were joined
byte by byte, and not that audio overlaps or is missing.
"""


@attrs.frozen(eq=False)
class Stamped:
    """A decoded audio frame, its number of samples, and the sample at which it starts according to its time stamp (None if it has no
    stamp).
    """

    frame: Any
    length: int
    stated: Fraction | None


@attrs.frozen(eq=False)
class Placed:
    """A decoded audio frame with its position in time.

    Attributes:
        frame: the decoded frame.
        start: the position of the frame's first sample, in samples; below 0 if it comes before the first picture.
        length: the frame's number of samples.
        is_moved: whether the frame does not start where the previous frame ends.
    """

    frame: Any
    start: int
    length: int
    is_moved: bool


class _Ahead:
    """An iterator over frames that allows looking ahead. No frame is decoded before it is needed."""

    def __init__(self, frames: Iterator[Stamped]) -> None:
        self._frames, self._seen = frames, deque[Stamped]()

    def __iter__(self) -> Iterator[Stamped]:
        while True:
            frame = self._seen.popleft() if self._seen else next(self._frames, None)
            if frame is None:
                return
            yield frame

    def next(self, samples: Fraction) -> Iterator[Stamped]:
        """Look ahead at the following frames, up to this number of samples."""
        yield from self._seen
        known = sum(frame.length for frame in self._seen)
        while known < samples and (frame := next(self._frames, None)) is not None:
            self._seen.append(frame)
            known += frame.length
            yield frame


def placed(frames: Iterator[Stamped], rate: int, tick: Fraction) -> Iterator[Placed]:
    """Position frames according to their stamps.

    A frame starts where the previous frame ends, unless its stamp differs from this place by more than the largest error of stamps.
    Rounding thus neither tears audio apart nor adds up.

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
    # These are the exact start and the number of the samples since the last move, and what is added to stamps since the clock was reset.
    base, count, set_anew = first.stated or Fraction(0), first.length, Fraction(0)
    if base > AHEAD_SECONDS * rate:  # the pictures have another clock, which must not cause an hour of silence
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
    """Return whether the stamps of the following frames are all off to the same side as `off`. The first of these frames is expected at the
    sample `expected`.
    """
    for each in following:
        if each.stated is not None:
            found = each.stated - expected
            if abs(found) <= slack or (found > 0) != (off > 0):
                return False
        expected += each.length
    return True


def _whole_frames(off: Fraction, each: Stamped, before: Stamped, tick: Fraction) -> Fraction:
    """Return the most exact length of a hole.

    If stamps are coarser than samples and the hole may be a whole number of frames, as after lost packets, its length is rounded to whole
    frames.
    """
    count = round(off / before.length) if before.length else 0
    if tick > 1 and count >= 1 and each.length == before.length and abs(off - count * before.length) <= tick:
        return Fraction(count * before.length)
    return off


def in_place(path: Path, container: Any, stream: Any, origin: Fraction | None) -> Iterator[Placed]:
    """Decode the frames of an audio stream and position them, counted from `origin` in seconds on the container's clock, or from the start
    of the audio if `origin` is None.

    Raises:
        DataError: the frames do not decode, or the rate or channels change.
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
                raise damaged(path, "the sampling rate or the number of channels of the audio changes partway through")
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
    """Return the time at which the first shown picture of a file appears, in seconds on the file's clock; None if there are no pictures.

    This is the start of the stream, unless the stream starts in the middle of a group of pictures, which cannot be decoded from there.

    Args:
        path: the file.
        container: the opened file; nothing is read from it.
    """
    pictures = video_stream(container)
    if pictures is None:
        return None
    if container.format.name == "avi":
        # The container has no time stamps for pictures. FFmpeg guesses stamps, which are wrong where frames are reordered.
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
    """Return when the first of the early video packets is shown, if it can be decoded alone and is shown before the others; None if the
    time can only be found by decoding.
    """
    times = [packet.pts for packet in early if packet.size and packet.pts is not None]
    if times and early[0].is_keyframe and not early[0].is_discard and early[0].pts == min(times):
        return Fraction(early[0].pts) * Fraction(stream.time_base)
    return None


def _alone(container: Any, *streams: Any) -> Iterator[Any]:
    """Read the packets of `streams`. Packets of other streams are skipped unread if the container knows where they are."""
    from av.stream import Discard

    for other in container.streams:
        if other not in streams:
            other.discard = Discard.all
    yield from container.demux(*streams)


_WITHOUT_CLOCK = frozenset({"wav", "w64", "aiff"})
"""The containers that hold only samples, one after the other, without time stamps."""

IN_TIME = "sound_in_time"
"""The correction of audio that 0.1.0 positioned wrongly, at least in part. It took the start of the video stream as the first picture,
positioned the first frame by its time stamp, and put each later frame right after the one before.
"""


def sound_corrections(path: Path, container: Any, *, is_unread: bool = False) -> tuple[str, ...]:
    """Find the corrections that apply to the audio of a file, by their names in `encode.outdated.CORRECTIONS`.

    If packets follow each other evenly, as in almost every file, packets suffice to decide. Otherwise the audio is decoded up to the first
    difference. Damage is not reported here, but when the file is read.

    Args:
        path: the file.
        container: the opened file.
        is_unread: whether the file was opened `quick` and nothing else reads from it, before or after, so that it need not be opened
            again.
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
    """Read the packets of an audio stream, and collect the first packets of the video in `early`. No further video packets are read."""
    from av.stream import Discard

    for packet in _alone(container, stream, *([] if pictures is None else [pictures])):
        if packet.stream is stream:
            yield packet
        elif len(early) < _EARLY:
            early.append(packet)
        elif pictures is not None:
            pictures.discard = Discard.all


def _is_even(stream: Any, packets: Iterator[Any]) -> bool:
    """Return whether each packet starts where the previous one ends, given that every packet has the codec's number of samples per frame.

    False may also mean that this cannot be known.
    """
    samples, rate = getattr(stream.codec_context, "frame_size", 0), getattr(stream.codec_context, "sample_rate", 0)
    if not samples or not rate:
        return False
    tick = Fraction(stream.time_base) * rate
    # Whole numbers are fast, and an hour of audio has many packets.
    ticks, parts, slack = tick.numerator, tick.denominator, max(tick.numerator, tick.denominator)
    first, count, is_over = None, 0, False
    for packet in packets:
        if not packet.size or (packet.is_discard and first is None):
            continue
        # Less than a frame is trimmed, which does not matter at the end, nor at the beginning if stamps are as exact as samples.
        is_trimmed = packet.is_discard or packet.has_sidedata("skip_samples")
        if packet.pts is None or is_over or (first is None and is_trimmed and tick > 1):
            return False
        first = packet.pts if first is None else first
        if abs((packet.pts - first) * ticks - count * samples * parts) > slack:
            return False
        count, is_over = count + 1, is_trimmed and count > 0
    return True


def _is_elsewhere(frames: Iterator[Placed], origin: Fraction | None, told: Fraction | None) -> bool:
    """Return whether any frame is positioned differently than in version 0.1.0, which put frames one after the other, starting at the first
    frame's time stamp relative to `told`.
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
