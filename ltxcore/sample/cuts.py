"""Determine from the header of a media file which part of the file a sample uses. Media that are longer than the sample
are cut at the end that the sample does not need.

Video frames are used one by one, whatever the frame rate of the file; audio is resampled to the codec's rate.
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
from ltxcore.media.compressed import compressed
from ltxcore.media.probe import MediaInfo, probe, read_sound
from ltxcore.protocols import Clip, Sound


@attrs.frozen
class ClipCut:
    """The frames of a file that a sample uses.

    Attributes:
        path: the file.
        size: the size at which the frames are encoded.
        factor: the first frame is used, and then every `factor`-th frame.
        from_end: whether the file's last frames are used instead of its first.
        rate: the frames per second of the file; None for a single picture.
        crf: how strongly the frames are compressed before they are encoded; 0 not at all.
    """

    path: Path
    size: Bucket
    factor: int = 1
    from_end: bool = False
    rate: Fraction | None = None
    crf: int = 0

    def shortened(self, frames: int) -> ClipCut:
        """Return a cut of the same file with at most `frames` frames."""
        return attrs.evolve(self, size=attrs.evolve(self.size, frames=min(frames, self.size.frames)))

    def read(self, rate: float) -> Clip:
        """Read the frames, fit them to the size, compress them, and return them as a clip of `rate` frames per second.

        Raises:
            DataError: the file cannot be read, or is shorter than its header says.
        """
        return Clip(compressed(read_fitted(self.path, self.size, factor=self.factor, last=self.from_end).frames, self.crf), rate)


def clip_cut(info: MediaInfo, target: Bucket, scale: Sequence[int], *, factor: int = 1, from_end: bool = False) -> ClipCut:
    """Cut a clip to the length of a target, in whole latent frames.

    Args:
        info: what probing the file found.
        target: the size at which the clip is encoded; its number of frames includes those that `factor` skips.
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
    """The part of a file's audio that a sample uses, already read and resampled to the codec's rate."""

    path: Path
    sound: Sound

    def steps(self, scale: Sequence[int]) -> int:
        """Return the number of latent steps that the codec makes from this audio."""
        return steps_of(self.sound.samples.shape[1], scale)


def sound_cut(path: Path, seconds: Fraction, *, from_end: bool = False) -> SoundCut:
    """Read the first or last `seconds` of a file's audio, or all of the audio if it is shorter.

    Raises:
        DataError: the file cannot be read, or has no audio.
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
    """Probe a file, and refuse it if it has no video.

    Raises:
        DataError: the file cannot be read, or has no video.
    """
    info = probe(path)
    if info.frames is None:
        raise DataError("this file has no video", where=str(path), remedy="Name a clip or an image.")
    return info


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Prefix errors about a file with the key that names the file; errors that already name the key do not change."""
    try:
        yield
    except LtxError as error:
        problems = [
            each if each.where.startswith(where) else attrs.evolve(each, where=f"{where}: {each.where}" if each.where else where)
            for each in error.problems
        ]
        raise type(error).of(problems) from error
