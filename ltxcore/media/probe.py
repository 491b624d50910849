"""The interface to media files: functions that describe them, read clips and audio from them, and write them.

All files that PyAV (FFmpeg) supports can be read, with any container, codec, sample rate and number of channels; so can AVIF, HEIC and
animated WebP. MP4 (H.264 and AAC), WAV (16 bits), PNG and JPEG can be written. Reading the same file twice gives the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import DataError
from ltxcore.media.aspect import SQUARE, pixel_aspect, squared
from ltxcore.media.clips import Memory, alpha_decoder, read_clip
from ltxcore.media.container import (
    audio_stream,
    counts_its_frames,
    damaged,
    frames_of,
    is_animation,
    is_image,
    opened,
    unknown_codec,
    video_stream,
)
from ltxcore.media.dolby_vision import refuse_unshowable
from ltxcore.media.hdr_frames import is_hdr
from ltxcore.media.info import MediaInfo
from ltxcore.media.photos import Photo, photo_of
from ltxcore.media.pictures import is_transparent, may_be_transparent
from ltxcore.media.sound_times import sound_corrections
from ltxcore.media.sounds import read_sound, write_sound
from ltxcore.media.times import counted, shown_in, told_rate
from ltxcore.media.upright import shown_size
from ltxcore.media.written import write_clip

__all__ = ["MediaInfo", "Memory", "frame_seconds", "probe", "read_clip", "read_sound", "shown_size", "write_clip", "write_sound"]


def probe(path: Path) -> MediaInfo:
    """Describe a media file. Its packets are read only if the container does not state which frames are shown and when, and at most the
    first frames are decoded.

    Raises:
        DataError: as in `read_clip`, or the file has neither video nor audio.
    """
    photo = photo_of(path)
    if photo is not None:
        return _of_photo(photo)
    with opened(path, quick=True) as container:
        if counts_its_frames(container) and pixel_aspect(container, video_stream(container), decoded=False) is not None:
            return _described(path, container, decoded=False)
    with opened(path) as container:
        return _described(path, container, decoded=True)


def _of_photo(photo: Photo) -> MediaInfo:
    times = photo.times
    return MediaInfo(
        path=photo.path,
        frames=photo.count,
        height=photo.height,
        width=photo.width,
        rate=photo.rate,
        duration=float(photo.count / photo.rate) if photo.rate else None,
        sound_rate=None,
        channels=None,
        is_image=photo.is_image,
        picture_corrections=photo.corrections,
        uneven=None if times is None else times.uneven,
    )


def _described(path: Path, container: Any, *, decoded: bool) -> MediaInfo:
    pictures, sound = video_stream(container), audio_stream(container)
    unseen, unheard = unknown_codec(path, container, "pictures"), unknown_codec(path, container, "sound")
    refusal = unheard if unseen is None and pictures is None else unseen
    if refusal is not None:
        raise refusal
    if pictures is None and sound is None:
        raise DataError("this file has neither video nor audio", where=str(path), remedy="Name a clip, a sound or an image.")
    if pictures is not None and not (pictures.codec_context.height and pictures.codec_context.width):
        raise damaged(path, "the frames have no size")
    if sound is not None and not (sound.rate and sound.codec_context.channels):
        raise damaged(path, "the audio has no sampling rate or no channels")
    info = MediaInfo(
        path=path,
        frames=None,
        height=None,
        width=None,
        rate=None,
        duration=None,
        sound_rate=None if sound is None else sound.rate,
        channels=None if sound is None else sound.codec_context.channels,
        is_image=is_image(container),
        unheard="" if unheard is None else unheard.problems[0].what,
    )
    if pictures is None:
        info = attrs.evolve(info, duration=_sound_duration(container, sound))
    else:
        info = _with_pictures(info, container, pictures, decoded)
    return attrs.evolve(info, sound_corrections=sound_corrections(path, container, is_unread=not decoded))


def _with_pictures(info: MediaInfo, container: Any, pictures: Any, decoded: bool) -> MediaInfo:
    refuse_unshowable(info.path, container, pictures)
    codec = pictures.codec_context
    aspect = pixel_aspect(container, pictures, decoded=decoded) or SQUARE
    info = attrs.evolve(info, height=codec.height, width=codec.width, aspect=aspect)
    corrections = {"hdr"} if is_hdr(info.path, pictures) else set[str]()
    if is_animation(container):
        corrections.add("animation")
    if squared(codec.height, codec.width, aspect) != (codec.height, codec.width):
        corrections.add("square_pixels")
    if info.is_image:
        if codec.pix_fmt and may_be_transparent(codec.pix_fmt) and is_transparent(_first_frame(info.path, container, pictures)):
            corrections.add("alpha")
        return attrs.evolve(info, frames=1, picture_corrections=tuple(sorted(corrections)))
    if (codec.pix_fmt and may_be_transparent(codec.pix_fmt)) or alpha_decoder(pictures) is not None:
        corrections.add("alpha")
    shown, rate = shown_in(info.path, container, pictures)
    if rate != told_rate(pictures):
        corrections.add("shown_rate")
    return attrs.evolve(
        info,
        frames=shown.frames,
        rate=rate,
        duration=float(shown.frames / rate),
        picture_corrections=tuple(sorted(corrections)),
        uneven=None if shown.times is None else shown.times.uneven,
    )


def _first_frame(path: Path, container: Any, stream: Any) -> Any:
    frame = next(frames_of(path, container, stream), None)
    if frame is None:
        raise damaged(path, "the image cannot be decoded")
    return frame


def frame_seconds(path: Path | str, max_frames: int) -> list[float]:
    """Return the times in seconds at which the first frames of a clip are shown, in order. The times are read from packets, without
    decoding.

    The list is empty if the file has no pictures, or does not state when they are shown.

    Raises:
        DataError: as in `probe`.
    """
    path = Path(path)
    photo = photo_of(path)
    if photo is not None:
        return photo.seconds[:max_frames]
    with opened(path) as container:
        stream = video_stream(container)
        times = None if stream is None else counted(path, container, stream).times
    return [] if times is None else [float(start * times.tick) for start in times.starts[:max_frames]]


def _sound_duration(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base is not None:  # some containers state 0 if they do not know the duration
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1_000_000
