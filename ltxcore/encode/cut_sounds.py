"""Audio cut to its sample's duration, and padded with silence if it ends early."""

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
"""The seconds that codecs add to or take from the end of a track; this much is read beyond a cut, so that resampling
does not see the edge.
"""


@attrs.frozen(eq=False)
class Cut:
    """Audio of the length that was asked for.

    Attributes:
        sound: the audio.
        added: the seconds of silence that were added at its end.
        holes: the seconds of silence earlier in it, where its file has no audio.
    """

    sound: Sound
    added: float
    holes: float = 0.0


def read_cut(path: Path, duration: Fraction | None, fill: bool = True) -> Cut:
    """Read the first `duration` seconds of a file's audio, or all of it.

    The length is counted after resampling to the codec's rate, so that equal durations give latents of equal length whatever rate the files have.

    Args:
        path: the file, read by PyAV.
        duration: the length in seconds; None for all.
        fill: whether audio that ends early is padded with silence; if not, it is padded only if it ends no more than
            `SOUND_MARGIN` early.

    Raises:
        DataError: the file cannot be read or has no audio.

    Source: docs/explanation/arithmetic.md#length-of-a-cut-sound
    """
    sound, gaps = read_with_gaps(path, max_duration=None if duration is None else float(duration) + SOUND_MARGIN)
    end = math.inf if duration is None else float(duration)
    holes = sum(min(gap.seconds, end - gap.at) for gap in gaps if gap.seconds > 0 and gap.at < end)
    samples = resample(sound.samples, sound.rate, RATE)
    if duration is None:
        return Cut(Sound(samples, RATE), 0.0, holes)
    wanted = math.floor(duration * RATE)
    missing = max(0, wanted - samples.shape[1])
    if not fill and missing > SOUND_MARGIN * RATE:
        missing = 0
    return Cut(Sound(pad(samples[:, :wanted], (0, missing)).contiguous(), RATE), missing / RATE, holes)


def longest_fitting(durations: Iterable[float], length: float) -> Fraction | None:
    """Return the longest of some durations, in seconds, that audio of this length can fill; None if it is shorter than all of them."""
    # By rounding, audio may end one of its samples early; a latent step is forty times that.
    fitting = [duration for duration in durations if duration <= length + 1e-3]
    return Fraction(str(max(fitting))) if fitting else None
