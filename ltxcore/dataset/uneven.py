"""Functions that report clips with a variable frame rate to the user, and prepare to resample them to a constant rate on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from ltxcore.errors import listed
from ltxcore.media.probe import MediaInfo
from ltxcore.media.times import Timing, Uneven, shown_frames


def resampled(info: MediaInfo, uneven: Uneven) -> MediaInfo:
    """Return the facts about a clip after resampling to a constant rate, or about a file whose frames correspond to such a clip's frames."""
    seconds = float(uneven.resampled_frames / uneven.resampled_rate)
    return attrs.evolve(info, frames=uneven.resampled_frames, rate=uneven.resampled_rate, duration=seconds)


def times_of(info: MediaInfo, clip: MediaInfo) -> MediaInfo | None:
    """Return the clip whose frame times decide which frames of a file are taken; None if all frames are taken.

    If the sample's clip is uneven and a reference or mask has the same number of frames, frames correspond one to one, and the clip
    decides. Otherwise the file itself decides, if it is uneven.
    """
    own = info.frames if info.uneven is None else info.uneven.frames
    if clip.uneven is not None and not info.is_image and own == clip.uneven.frames:
        return clip
    return None if info.uneven is None else info


def timing_of(path: Path, uneven: Uneven) -> Timing:
    """Return the timing by which the frames of an uneven clip are taken.

    Raises:
        DataError: the clip cannot be read.
    """
    times = shown_frames(path)[0].times
    return Timing(uneven.resampled_rate, None if times is None else times.repeats(uneven.resampled_rate))


def note(dataset: Path, count: int, uneven: Sequence[str], resamples: bool) -> str:
    """Return a note that says which of `count` clips have a variable frame rate, and what is done with their frames."""
    told = f"{dataset}: {len(uneven)} of {count} clips {'has' if len(uneven) == 1 else 'have'} a variable frame rate"
    if resamples:
        return f"{told}, and {'is' if len(uneven) == 1 else 'are'} resampled to a constant one: {listed(uneven)}"
    what = "its frames are" if len(uneven) == 1 else "their frames are"
    return f'{told}: {listed(uneven)}; {what} used as if they were all equally long; variable_rate = "resample" uses their true times'
