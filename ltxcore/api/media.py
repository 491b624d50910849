"""Media files: probing them, and reading and writing clips and audio. Provisional until 1.0.

Every medium that ltx trains on can be read. Frames are uint8 RGB, `[F, H, W, 3]`, upright, with square pixels; audio is float32,
`[channels, samples]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ltxcore.later import later
from ltxcore.media.info import MediaInfo
from ltxcore.protocols import Clip, Sound

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.media.probe import frame_seconds
    from ltxcore.media.sounds import Gap, read_with_gaps

__all__ = [
    "Gap",
    "MediaInfo",
    "frame_seconds",
    "log_mel",
    "open_clip",
    "open_sound",
    "probe",
    "read_clip",
    "read_sound",
    "read_with_gaps",
    "write_frames",
    "write_media",
]

__getattr__ = later(
    __name__, {"Gap": "ltxcore.media.sounds", "frame_seconds": "ltxcore.media.probe", "read_with_gaps": "ltxcore.media.sounds"}
)


def probe(path: Path) -> MediaInfo:
    """Probe a media file for its frames, size, exact rate, duration and audio. At most its first frames are decoded.

    Raises:
        DataError: there is no such file, or it is not a media file, is truncated or is damaged.
    """
    from ltxcore.media.probe import probe

    return probe(path)


def read_clip(path: Path, *, max_frames: int | None = None) -> Clip:
    """Read the frames of a clip or an image; from a clip, at most the first `max_frames`.

    Raises:
        DataError: there is no such file, it has no pictures, or it is cut short or damaged.
    """
    from ltxcore.media.probe import read_clip

    return read_clip(path, max_frames=max_frames)


def read_sound(path: Path, *, max_duration: float | None = None, rate: int | None = None, mono: bool = False) -> Sound:
    """Read the audio of a file, aligned in time with the file's video.

    Args:
        path: the file, with or without video.
        max_duration: the most seconds to read, from the beginning.
        rate: the samples per second to resample to; None keeps its own.
        mono: whether its channels are averaged into one.

    Raises:
        DataError: there is no such file, it has no sound, or it is cut short or damaged.
    """
    from ltxcore.codecs.mel import resample
    from ltxcore.media.probe import read_sound

    sound = read_sound(path, max_duration=max_duration)
    samples = sound.samples.mean(dim=0, keepdim=True) if mono else sound.samples
    return Sound(samples, sound.rate) if rate is None else Sound(resample(samples, sound.rate, rate), rate)


def log_mel(sound: Sound) -> Tensor:
    """Return the log-mel spectrogram of a sound, as natural logarithms of amplitudes `[channels, time, pitch]`: 100
    steps a second, 64 pitches up to 8 kHz.

    Raises:
        DataError: the sound is shorter than 33 milliseconds.
    """
    from ltxcore.codecs.mel import log_mel, resample

    return log_mel(resample(sound.samples, sound.rate, 16000))


def open_clip(path: Path) -> AbstractContextManager[tuple[Fraction, Iterator[Tensor]]]:
    """Open a clip in a context that gives its exact frames per second and an iterator over its frames `[H, W, 3]`,
    which holds only a few frames in memory.

    Raises:
        DataError: as `read_clip`; raised by the iterator where frames cannot be decoded.
    """
    from ltxcore.media.clips import reading

    return reading(path)


def open_sound(path: Path) -> AbstractContextManager[Iterator[Sound]]:
    """Open the audio of a file in a context that gives it as consecutive pieces; there are none if the file has no
    audio.

    Raises:
        DataError: there is no such file, or it is not a media file; raised by the iterator where pieces cannot be decoded.
    """
    from ltxcore.media.sounds import hearing

    return hearing(path)


def write_frames(path: Path, frames: Iterator[Tensor], rate: Fraction, sound: Sound | None = None) -> None:
    """Write frames `[H, W, 3]` of one size as MP4, one at a time, so that a clip of any length needs the memory of only
    one frame.

    The file appears either complete or not at all. Audio in a form that AAC does not support is converted.

    Raises:
        DataError: there are no frames, or the file cannot be written.
    """
    from ltxcore.media.written import write_frames
    from ltxcore.sample.outputs import for_aac

    write_frames(path, frames, rate, None if sound is None else for_aac(sound))


def write_media(path: Path, clip: Clip | None = None, sound: Sound | None = None) -> Path:
    """Write a clip as MP4 with its audio, a single frame as PNG with its audio in a WAV file beside it, or audio alone
    as WAV.

    Args:
        path: the path of the file, without its extension.
        clip: the frames.
        sound: the audio.

    Returns:
        The file, with its extension.

    Raises:
        DataError: the frames have an odd width or height, or the file cannot be written.
    """
    from ltxcore.sample.outputs import Played, write

    return write(Played(clip, sound), path)
