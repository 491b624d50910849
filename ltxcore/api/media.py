"""Media files: probing them, and reading and writing clips and audio. Provisional until 1.0.

The functions read every medium that ltx can train on. Frames are uint8 RGB, `[F, H, W, 3]`, upright, with square pixels; audio is
float32, `[channels, samples]`.
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


def probe(path: Path | str) -> MediaInfo:
    """Probe a media file for its frames, size, exact rate, duration and audio. At most its first frames are decoded.

    Raises:
        DataError: the file does not exist, is not a media file, or is truncated or damaged.
    """
    from ltxcore.media.probe import probe

    return probe(Path(path))


def read_clip(path: Path | str, *, max_frames: int | None = None, start: int = 0) -> Clip:
    """Read the frames of a clip or an image; from a clip, at most `max_frames`, beginning with frame `start`.

    Raises:
        DataError: the file does not exist, has no pictures, or is truncated or damaged.
    """
    from ltxcore.media.probe import read_clip

    return read_clip(Path(path), max_frames=max_frames, start=start)


def read_sound(path: Path | str, *, max_duration: float | None = None, rate: int | None = None, mono: bool = False) -> Sound:
    """Read the audio of a file, aligned in time with the file's video.

    Args:
        path: the file, with or without video.
        max_duration: the maximum number of seconds to read, from the beginning.
        rate: the samples per second to resample to; None keeps the rate of the file.
        mono: whether the channels are averaged into one.

    Raises:
        DataError: the file does not exist, has no sound, or is truncated or damaged.
    """
    from ltxcore.codecs.mel import resample
    from ltxcore.media.probe import read_sound

    sound = read_sound(Path(path), max_duration=max_duration)
    samples = sound.samples.mean(dim=0, keepdim=True) if mono else sound.samples
    return Sound(samples, sound.rate) if rate is None else Sound(resample(samples, sound.rate, rate), rate)


def log_mel(sound: Sound) -> Tensor:
    """Return the log-mel spectrogram of a sound, as natural logarithms of amplitudes `[channels, time, pitch]`, with 100 steps
    per second and 64 pitches up to 8 kHz.

    Raises:
        DataError: the sound is shorter than 33 milliseconds.
    """
    from ltxcore.codecs.mel import log_mel, resample

    return log_mel(resample(sound.samples, sound.rate, 16000))


def open_clip(path: Path | str) -> AbstractContextManager[tuple[Fraction, Iterator[Tensor]]]:
    """Return a context manager that opens a clip and gives its exact frames per second and an iterator over its frames `[H, W, 3]`; only a
    few frames are in memory at a time.

    Raises:
        DataError: as for `read_clip`; the iterator raises this error if a frame cannot be decoded.
    """
    from ltxcore.media.clips import reading

    return reading(Path(path))


def open_sound(path: Path | str) -> AbstractContextManager[Iterator[Sound]]:
    """Return a context manager that opens the audio of a file and gives an iterator over consecutive pieces; the iterator is empty if the
    file has no audio.

    Raises:
        DataError: the file does not exist, or is not a media file; the iterator raises this error if a piece cannot be decoded.
    """
    from ltxcore.media.sounds import hearing

    return hearing(Path(path))


def write_frames(path: Path | str, frames: Iterator[Tensor], rate: Fraction, sound: Sound | None = None, *, lossless: bool = False) -> None:
    """Write frames `[H, W, 3]` of one size as MP4, one frame at a time, so that a clip of any length needs memory for only one
    frame.

    The file is either written completely or not at all. Audio is converted if AAC does not support its form. With `lossless`, the file is
    larger, and black and white are read back exactly, which masks need.

    Raises:
        DataError: there are no frames, or the file cannot be written.
    """
    from ltxcore.media.written import write_frames
    from ltxcore.sample.outputs import for_aac

    write_frames(Path(path), frames, rate, None if sound is None else for_aac(sound), lossless=lossless)


def write_media(path: Path | str, clip: Clip | None = None, sound: Sound | None = None) -> Path:
    """Write a clip as MP4 with its audio, a single frame as PNG with its audio in a WAV file beside it, or audio alone
    as WAV.

    Args:
        path: the path of the file, without its extension.
        clip: the frames.
        sound: the audio.

    Returns:
        The path of the file, with its extension.

    Raises:
        DataError: the frames have an odd width or height, or the file cannot be written.
    """
    from ltxcore.sample.outputs import Played, write

    return write(Played(clip, sound), Path(path))
