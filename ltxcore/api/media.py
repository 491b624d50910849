"""Media files: what is in them, clips and sounds from them, and back. Provisional until 1.0.

All is read that ltx trains on. Pictures are uint8 RGB, `[F, H, W, 3]`, upright, with square pixels; sounds are float32, `[channels, samples]`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ltxcore.protocols import Clip, Sound

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.media.probe import MediaInfo

__all__ = ["log_mel", "probe", "read_clip", "read_sound"]


def probe(path: Path) -> MediaInfo:
    """What is in a media file: frames, size, exact rate, seconds, sound. No more than its first frames are decoded.

    Raises:
        DataError: there is no such file, or it is no medium, cut short or damaged.
    """
    from ltxcore.media.probe import probe

    return probe(path)


def read_clip(path: Path, *, max_frames: int | None = None) -> Clip:
    """The pictures of a clip or an image; of a clip no more than its first `max_frames`.

    Raises:
        DataError: there is no such file, it has no pictures, or it is cut short or damaged.
    """
    from ltxcore.media.probe import read_clip

    return read_clip(path, max_frames=max_frames)


def read_sound(path: Path, *, max_duration: float | None = None) -> Sound:
    """The sound of a file, in its place beside the pictures.

    Args:
        path: of a sound, or of a clip.
        max_duration: seconds that are read, from the beginning.

    Raises:
        DataError: there is no such file, it has no sound, or it is cut short or damaged.
    """
    from ltxcore.media.probe import read_sound

    return read_sound(path, max_duration=max_duration)


def log_mel(sound: Sound) -> Tensor:
    """How loud each pitch of a sound is over time, as natural logarithms of amplitudes `[channels, time, pitch]`: 100 a second, 64 pitches up to 8 kHz.

    Raises:
        DataError: the sound is too short, less than 33 milliseconds.
    """
    from ltxcore.codecs.mel import log_mel, resample

    return log_mel(resample(sound.samples, sound.rate, 16000))
