"""Functions that cut audio to its sample's duration, and pad it with silence if it ends early."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import attrs
from torch.nn.functional import pad

from ltxcore.codecs.mel import RATE, resample
from ltxcore.media.sounds import read_with_gaps
from ltxcore.protocols import Sound

SOUND_MARGIN = 0.1
"""The seconds by which codecs lengthen or shorten a track at its end. This much is also read beyond a cut, so that the edge does not affect
resampling.
"""


@attrs.frozen(eq=False)
class Cut:
    """Audio cut or padded to a requested length.

    Attributes:
        sound: the audio.
        added: the seconds of silence that were added at the end.
        holes: the seconds of silence before the end where the file has no audio.
    """

    sound: Sound
    added: float
    holes: float = 0.0


def read_cut(path: Path, duration: Fraction | None, fill: bool = True, start: Fraction = Fraction(0)) -> Cut:
    """Read `duration` seconds of a file's audio, beginning at `start` seconds, or all of it from there on.

    The audio is cut after resampling to the codec's rate, so that equal durations give latents of equal length whatever the files' rates.

    Args:
        path: the file, read by PyAV.
        duration: the length in seconds; None for all.
        fill: whether all audio that ends early is padded with silence, or only audio that ends at most `SOUND_MARGIN` early.
        start: the time of the first sample, in seconds.

    Raises:
        DataError: the file cannot be read or has no audio.

    Source: docs/explanation/arithmetic.md#length-of-a-cut-sound
    """
    # Whole seconds are whole numbers of samples at every rate, so that resampling gives the same samples without them.
    skip = max(0, math.floor(start - Fraction(SOUND_MARGIN)))
    end = math.inf if duration is None else float(start + duration)
    sound, gaps = read_with_gaps(path, max_duration=None if duration is None else end + SOUND_MARGIN, skip=skip)
    holes = sum(max(0.0, min(gap.seconds, end - gap.at) - max(0.0, float(start) - gap.at)) for gap in gaps if gap.seconds > 0)
    samples = resample(sound.samples, sound.rate, RATE)[:, math.floor(start * RATE) - skip * RATE :]
    if duration is None:
        return Cut(Sound(samples, RATE), 0.0, holes)
    wanted = math.floor(duration * RATE)
    missing = max(0, wanted - samples.shape[1])
    if not fill and missing > SOUND_MARGIN * RATE:
        missing = 0
    return Cut(Sound(pad(samples[:, :wanted], (0, missing)).contiguous(), RATE), missing / RATE, holes)


def longest_fitting(durations: Iterable[float], length: float) -> Fraction | None:
    """Return the longest of these durations, in seconds, that audio of `length` seconds can fill; None if the audio is shorter than all of
    them.
    """
    # Rounding may make audio one of its samples too short; the tolerance is a fortieth of a latent step.
    fitting = [duration for duration in durations if duration <= length + 1e-3]
    return Fraction(str(max(fitting))) if fitting else None
