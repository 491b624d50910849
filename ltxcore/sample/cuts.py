"""The part of a media file that a sample uses, determined from its header and read later. Media longer than what is
generated are cut at the end that does not matter.

Frames are taken one by one, whatever the file's own rate; audio is resampled to the codec's rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.codecs.mel import HOP, RATE, resample
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.cut_sounds import read_cut
from ltxcore.encode.pixels import read_fitted
from ltxcore.errors import DataError, LtxError
from ltxcore.media.probe import MediaInfo, probe, read_sound
from ltxcore.protocols import Clip, Sound


@attrs.frozen
class ClipCut:
    """The frames of a file that a sample uses.

    Attributes:
        path: the file.
        size: the size at which it is encoded.
        factor: after the first frame, every factor-th frame is taken.
        from_end: whether the file's last frames are used instead of its first.
        rate: the file's own frames per second; None for a single picture.
    """

    path: Path
    size: Bucket
    factor: int = 1
    from_end: bool = False
    rate: Fraction | None = None

    def shortened(self, frames: int) -> ClipCut:
        """Return a cut of the same file with no more than its first `frames` frames."""
        return attrs.evolve(self, size=attrs.evolve(self.size, frames=min(frames, self.size.frames)))

    def read(self, rate: float) -> Clip:
        """Read the frames, fitted to the size, to be played at `rate` frames per second.

        Raises:
            DataError: the file cannot be read, or is shorter than its header says.
        """
        return Clip(read_fitted(self.path, self.size, factor=self.factor, last=self.from_end).frames, rate)


def clip_cut(info: MediaInfo, target: Bucket, scale: Sequence[int], *, factor: int = 1, from_end: bool = False) -> ClipCut:
    """Cut a clip to the length of a target, in whole latent frames.

    Args:
        info: what probing the file found.
        target: the size at which it is encoded, with frames counted before every `factor`-th is taken.
        scale: the codec's scale: the pixel frames, rows and columns of a latent cell.
        factor: see `ClipCut`.
        from_end: see `ClipCut`.
    """
    step = 1 if info.is_image else factor
    reach = min(info.frames or 0, target.frames)
    whole = (reach - 1) // (scale[0] * step) * scale[0] + 1
    return ClipCut(info.path, attrs.evolve(target, frames=whole), step, from_end, info.rate)


@attrs.frozen(eq=False)
class SoundCut:
    """The part of a file's audio that a sample uses, already read, at the codec's rate."""

    path: Path
    sound: Sound

    def steps(self, scale: Sequence[int]) -> int:
        """Return the number of latent steps that the codec makes from this audio."""
        return steps_of(self.sound.samples.shape[1], scale)


def sound_cut(path: Path, seconds: Fraction, *, from_end: bool = False) -> SoundCut:
    """Read the first or the last `seconds` of a file's audio, or all of the audio if it is shorter.

    Raises:
        DataError: it cannot be read, or has no sound.
    """
    if not from_end:
        return SoundCut(path, read_cut(path, seconds, fill=False).sound)
    whole = read_sound(path)
    samples = resample(whole.samples, whole.rate, RATE)
    return SoundCut(path, Sound(samples[:, -samples_in(seconds) :].contiguous(), RATE))


Cut = ClipCut | SoundCut


def samples_in(seconds: Fraction) -> int:
    """Return the number of audio samples at the codec's rate in `seconds`."""
    return math.floor(seconds * RATE)


def steps_of(samples: int, scale: Sequence[int]) -> int:
    """Return the number of latent steps for audio with `samples` samples at the codec's rate.

    Source: docs/explanation/arithmetic.md#tokens-of-a-sound
    """
    return samples // HOP // scale[0] + 1


def look(path: Path) -> MediaInfo:
    """Probe a file, and refuse it if it has no pictures.

    Raises:
        DataError: it cannot be read, or has no pictures.
    """
    info = probe(path)
    if info.frames is None:
        raise DataError("this file has no video", where=str(path), remedy="Name a clip or an image.")
    return info


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Prefix a file's errors with the key that names the file; errors that already name the key are left unchanged."""
    try:
        yield
    except LtxError as error:
        problems = [
            each if each.where.startswith(where) else attrs.evolve(each, where=f"{where}: {each.where}" if each.where else where)
            for each in error.problems
        ]
        raise type(error).of(problems) from error
