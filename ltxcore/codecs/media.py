"""Media files: what is in them, clips and sounds from them, and back.

Everything is read that PyAV (FFmpeg) reads: any container, codec, sample rate and number of channels; and AVIF, HEIC and animated WebP. Written are MP4 (H.264 and AAC), WAV
(16 bits), PNG and JPEG. Reading the same file twice gives the same numbers.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from ltxcore.codecs.clips import Memory, frame_rate, read_clip, write_clip
from ltxcore.codecs.container import (
    audio_stream,
    counts_its_frames,
    damaged,
    is_animation,
    is_image,
    opened,
    packets_of,
    unknown_codec,
    video_stream,
)
from ltxcore.codecs.photos import photo_of
from ltxcore.codecs.sound_times import sound_corrections
from ltxcore.codecs.sounds import read_sound, write_sound
from ltxcore.codecs.upright import shown_size
from ltxcore.errors import DataError

__all__ = ["MediaInfo", "Memory", "frame_seconds", "probe", "read_clip", "read_sound", "shown_size", "write_clip", "write_sound"]


MOST_REORDERED = 32
"""Packets by which a frame may come later in a file than it is shown: more than any codec allows."""


@attrs.frozen
class MediaInfo:
    """What a file holds, known without decoding it.

    Attributes:
        path: the file.
        frames: of its video stream; None: it has no pictures.
        height, width: pixels as they are stored, before they are turned upright; None: no pictures.
        rate: frames per second, exact; None: no pictures, or an image.
        duration: seconds of its pictures, or of its sound if it has none; None: an image, or not known.
        sound_rate: samples per second; None: no sound, or none that can be decoded.
        channels: of its sound; None: likewise.
        is_image: whether it is a single picture.
        picture_corrections: what is set right in its pictures that 0.1.0 got wrong, by their names in `corrections.CORRECTIONS`, sorted.
        sound_corrections: likewise in its sound.
        unheard: why its sound cannot be decoded, where that is so.
    """

    path: Path
    frames: int | None
    height: int | None
    width: int | None
    rate: Fraction | None
    duration: float | None
    sound_rate: int | None
    channels: int | None
    is_image: bool
    picture_corrections: tuple[str, ...] = ()
    sound_corrections: tuple[str, ...] = ()
    unheard: str = ""


def probe(path: Path) -> MediaInfo:
    """What is in a media file. Only where the container does not count its frames are its packets read, and none is decoded.

    Raises:
        DataError: as `read_clip`, or neither pictures nor sound.
    """
    photo = photo_of(path)
    if photo is not None:
        duration = float(photo.count / photo.rate) if photo.rate else None
        return MediaInfo(path, photo.count, photo.height, photo.width, photo.rate, duration, None, None, photo.is_image)
    with opened(path, quick=True) as container:
        if counts_its_frames(container):
            return _described(path, container)
    with opened(path) as container:
        return _described(path, container)


def _described(path: Path, container: Any) -> MediaInfo:
    pictures, sound, image = video_stream(container), audio_stream(container), is_image(container)
    unseen, unheard = unknown_codec(path, container, "pictures"), unknown_codec(path, container, "sound")
    refusal = unheard if unseen is None and pictures is None else unseen
    if refusal is not None:
        raise refusal
    if pictures is None and sound is None:
        raise DataError("this file has neither pictures nor sound", where=str(path), remedy="Name a clip, a sound or an image.")
    if pictures is not None and not (pictures.codec_context.height and pictures.codec_context.width):
        raise damaged(path, "its pictures have no size")
    if sound is not None and not (sound.rate and sound.codec_context.channels):
        raise damaged(path, "its sound has no rate or no channels")
    rate = None if pictures is None or image else frame_rate(path, pictures)
    frames = None if pictures is None else 1 if image else pictures.frames or _count(path, container, pictures)
    return MediaInfo(
        path=path,
        frames=frames,
        height=None if pictures is None else pictures.codec_context.height,
        width=None if pictures is None else pictures.codec_context.width,
        rate=rate,
        duration=_sound_duration(container, sound) if frames is None else None if rate is None else float(frames / rate),
        sound_rate=None if sound is None else sound.rate,
        channels=None if sound is None else sound.codec_context.channels,
        is_image=image,
        picture_corrections=("animation",) if is_animation(container) else (),
        unheard="" if unheard is None else unheard.problems[0].what,
        sound_corrections=sound_corrections(path, container),
    )


def frame_seconds(path: Path, max_frames: int) -> list[float]:
    """When each of the first frames of a clip is shown, in seconds, in order; read from its packets, none of which is decoded.

    Empty where the file has no pictures, or does not say.

    Raises:
        DataError: as `probe`.
    """
    photo = photo_of(path)
    if photo is not None:
        return photo.seconds[:max_frames]
    times: list[Fraction] = []
    with opened(path) as container:
        stream = video_stream(container)
        if stream is None or stream.time_base is None:
            return []
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                times.append(packet.pts * Fraction(stream.time_base))
            if len(times) >= max_frames + MOST_REORDERED:
                break
    return [float(seconds) for seconds in sorted(times)[:max_frames]]


def _count(path: Path, container: Any, stream: Any) -> int:
    return sum(packet.size > 0 and not packet.is_discard for packet in packets_of(path, container, stream))


def _sound_duration(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base is not None:  # some say 0 where they do not know it
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1_000_000
