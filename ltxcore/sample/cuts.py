"""What of a media file a sample uses: known from its header, and read later. Media longer than what is drawn are cut at the end that does not matter.

Frames are taken one by one, whatever the file's own rate; sounds are brought to the codec's rate.
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
    """Pictures of a file that a sample uses.

    Attributes:
        path: the file.
        size: of what is encoded.
        factor: every factor-th frame is taken, the first one alone.
        from_end: whether the file's last frames are used, not its first.
        rate: the file's own frames per second; none: it is a single picture.
    """

    path: Path
    size: Bucket
    factor: int = 1
    from_end: bool = False
    rate: Fraction | None = None

    def shortened(self, frames: int) -> ClipCut:
        """The same file with no more than its first `frames` frames."""
        return attrs.evolve(self, size=attrs.evolve(self.size, frames=min(frames, self.size.frames)))

    def read(self, rate: float) -> Clip:
        """The frames, fitted to the size, to be played at `rate` frames per second.

        Raises:
            DataError: the file cannot be read, or is shorter than its header says.
        """
        return Clip(read_fitted(self.path, self.size, factor=self.factor, last=self.from_end).frames, rate)


def clip_cut(info: MediaInfo, target: Bucket, scale: Sequence[int], *, factor: int = 1, from_end: bool = False) -> ClipCut:
    """As much of a clip as goes with a target, in whole latent frames.

    Args:
        info: of the file.
        target: size of what is encoded, its frames counted before every `factor`-th is taken.
        scale: of the codec.
        factor: see `ClipCut`.
        from_end: see `ClipCut`.
    """
    step = 1 if info.is_image else factor
    reach = min(info.frames or 0, target.frames)
    whole = (reach - 1) // (scale[0] * step) * scale[0] + 1
    return ClipCut(info.path, attrs.evolve(target, frames=whole), step, from_end, info.rate)


@attrs.frozen(eq=False)
class SoundCut:
    """Sound of a file that a sample uses, already read, at the codec's rate."""

    path: Path
    sound: Sound

    def steps(self, scale: Sequence[int]) -> int:
        """Latent steps that the codec makes of it."""
        return steps_of(self.sound.samples.shape[1], scale)


def sound_cut(path: Path, seconds: Fraction, *, from_end: bool = False) -> SoundCut:
    """The first or the last `seconds` of a file's sound, or all of it where it is shorter.

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
    """Samples at the codec's rate."""
    return math.floor(seconds * RATE)


def steps_of(samples: int, scale: Sequence[int]) -> int:
    """Latent steps of a sound of so many samples at the codec's rate.

    Source: docs/explanation/arithmetic.md#tokens-of-a-sound
    """
    return samples // HOP // scale[0] + 1


def look(path: Path) -> MediaInfo:
    """What is in a file with pictures.

    Raises:
        DataError: it cannot be read, or has no pictures.
    """
    info = probe(path)
    if info.frames is None:
        raise DataError("this file has no video", where=str(path), remedy="Name a clip or an image.")
    return info


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Put the key that names a file before what is wrong with the file; what already says the key is left."""
    try:
        yield
    except LtxError as error:
        problems = [
            each if each.where.startswith(where) else attrs.evolve(each, where=f"{where}: {each.where}" if each.where else where)
            for each in error.problems
        ]
        raise type(error).of(problems) from error
