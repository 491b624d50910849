"""Masks of audio as spans of time, which are laid over the waveform of the audio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import attrs

from ltxcore.api.media import read_sound

PART = 0.02
"""The seconds of a mask that are averaged to one value."""
LEVELS = 20
"""The steps that values from 0 to 1 are rounded to."""
MOST_TOLD = 6
"""The spans that are told in words."""


@attrs.frozen
class Span:
    """A part of some audio, and how much of it is given.

    Attributes:
        begin, end: where it begins and ends, in seconds.
        given: 0 where the model generates the audio, 1 where the audio is given, and between them where it is partly given.
    """

    begin: float
    end: float
    given: float

    @property
    def word(self) -> str:
        return "given" if self.given == 1 else "generated" if self.given == 0 else "partly given"


@attrs.frozen
class Laid:
    """A mask on the waveform that it is laid over.

    Attributes:
        over: the role of the audio with this waveform, such as "audio".
        spans: the spans of the mask, which together are as long as the waveform.
    """

    over: str
    spans: tuple[Span, ...]

    @property
    def words(self) -> str:
        """The spans in words."""
        told = [list(each) for _, each in groupby(self.spans, lambda span: span.word)]
        parts = [f"{each[0].begin:.2f} to {each[-1].end:.2f} s {each[0].word}" for each in told[:MOST_TOLD]]
        return ", ".join([*parts, *([f"and {len(told) - MOST_TOLD} more parts"] if len(told) > MOST_TOLD else [])])


def read_spans(path: Path, longest: float) -> tuple[Span, ...]:
    """Return the spans of a mask, in order and without gaps. As in preprocessing, the amplitude is the value; its sign does not matter.

    Args:
        path: the audio file that is the mask.
        longest: the seconds of it to read at most.

    Raises:
        DataError: the file cannot be read, or has no audio.
    """
    sound = read_sound(path, max_duration=longest)
    parts = sound.samples.abs().mean(dim=0).split(max(1, round(sound.rate * PART)))
    levels = [round(min(1.0, float(part.mean())) * LEVELS) for part in parts]
    spans: list[Span] = []
    for level, equal in groupby(zip(levels, parts, strict=True), lambda each: each[0]):
        begin = spans[-1].end if spans else 0.0
        spans.append(Span(begin, begin + sum(part.shape[0] for _, part in equal) / sound.rate, level / LEVELS))
    return tuple(spans)


def lay(spans: Sequence[Span], over: str, heard: float) -> Laid:
    """Lay a mask over a waveform. As in preprocessing, nothing of a mask counts beyond the end of its audio, and the last value of a shorter
    one continues to this end.

    Args:
        spans: the spans of the mask, at least one.
        over: the role of the audio with the waveform.
        heard: the seconds that the waveform shows.
    """
    inside = [span for span in spans if span.begin < heard]
    return Laid(over, (*inside[:-1], attrs.evolve(inside[-1], end=heard)))
