"""What `ltx new` has to know about the clips to write a run file, taken from the same examination of a dataset that `ltx check` makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.overview import Overview, overview
from ltxcore.errors import DataError
from ltxcore.new.modes import Mode
from ltxcore.progress import Phase

MOST_HELD_OUT = 32


@attrs.frozen
class Clips:
    """The properties of a dataset that a run file depends on.

    Attributes:
        count: the number of clips, pictures or sounds that the mode can use.
        sizes: the buckets proposed for them, the largest first; empty if there are no pictures.
        seconds: the duration of the shortest sound or clip with audio; 0 if it is not known.
        rate: the most common number of frames per second; 0 if there are no clips.
        caption: the caption of the first sample that has one; "" if none has.
    """

    count: int
    sizes: tuple[Bucket, ...] = ()
    seconds: float = 0.0
    rate: float = 0.0
    caption: str = ""

    @property
    def held_out(self) -> int:
        """The number of clips that are kept for the validation loss: a tenth of them, from 1 to 32, but none if there
        are fewer than four.
        """
        return 0 if self.count < 4 else min(MOST_HELD_OUT, max(1, round(self.count / 10)))

    @property
    def trained(self) -> int:
        """The number of clips that are trained on."""
        return self.count - self.held_out


def look(path: Path, mode: Mode, phase: Phase) -> tuple[Clips, Overview]:
    """Examine a dataset for a mode, reading the headers of as many files as `ltx check` opens.

    Args:
        path: a folder of media, or a dataset file.
        mode: the mode that the dataset is for.
        phase: shows progress.

    Raises:
        DataError: there is no such dataset, or it holds nothing that can be trained on.
    """
    found = overview(path, PreprocessingTable(), phase)
    seen = [sample for sample in found.data.samples if "video" not in mode.parts or "video" in sample.media]
    if not seen:
        raise DataError(
            f"contains no clips or pictures, which {mode.name} trains on",
            where=str(path),
            remedy="Name other data, or an audio mode: `ltx new` lists the modes.",
        )
    rates = Counter(float(info.rate) for info in found.infos if info.rate is not None)
    heard = [info.duration for info in found.infos if info.sound_rate is not None and info.duration is not None]
    captions = (sample.caption.strip() for sample in seen)
    clips = Clips(
        len(seen),
        found.sizes,
        min(heard, default=0.0),
        max(rates, key=lambda rate: (rates[rate], rate), default=0.0),
        next(filter(None, captions), ""),
    )
    return clips, found
