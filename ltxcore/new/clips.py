"""The properties of the clips from which `ltx new` writes a run file; a dataset is examined for them as in `ltx check`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import survey_dataset
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.overview import Overview, overview
from ltxcore.errors import DataError
from ltxcore.new.modes import Mode
from ltxcore.progress import Phase
from ltxcore.registry import Registry

MOST_HELD_OUT = 32


@attrs.frozen
class Clips:
    """The properties of a dataset that a run file depends on.

    Attributes:
        count: the number of clips, pictures or sounds that the mode can use.
        sizes: the proposed buckets, the largest first; empty if there are no pictures.
        seconds: the duration of the shortest sound or clip with audio; 0 if it is not known.
        rate: the most common number of frames per second; 0 if there are no clips.
        caption: the caption of the first sample that has one, or else the name of its folder if `uncaptioned` says so; "" if there is none.
        silent: the number of clips and pictures without audio, in a mode with audio. If the mode generates both, they train the video;
            otherwise they are left out, and are not counted in `count`.
        uneven: the number of clips with a variable frame rate.
        uncaptioned: the number of files without a caption that are to have the name of their folder as one.
    """

    count: int
    sizes: tuple[Bucket, ...] = ()
    seconds: float = 0.0
    rate: float = 0.0
    caption: str = ""
    silent: int = 0
    uneven: int = 0
    uncaptioned: int = 0

    @property
    def held_out(self) -> int:
        """The number of clips that are held out for the validation loss: a tenth of all clips, but at least 1 and at most 32; none if there
        are fewer than four clips.
        """
        return 0 if self.count < 4 else min(MOST_HELD_OUT, max(1, round(self.count / 10)))

    @property
    def trained(self) -> int:
        """The number of clips that are trained on."""
        return self.count - self.held_out


def look(path: Path, mode: Mode, registry: Registry, phase: Phase) -> tuple[Clips, Overview]:
    """Examine a dataset for a mode, reading the headers of as many files as `ltx check` opens.

    Args:
        path: a folder of media, or a dataset file.
        mode: the mode that the dataset is for.
        registry: the plugins whose sources can read the dataset.
        phase: a function that shows progress.

    Raises:
        DataError: the dataset does not exist, or holds nothing to train on.
    """
    options = PreprocessingTable(registry=registry)
    found = overview(path, options, phase)
    seen = [sample for sample in found.data.samples if "video" not in mode.parts or "video" in sample.media]
    if not seen:
        raise DataError(
            f"contains no clips or pictures for {mode.name} to train on",
            where=str(path),
            remedy="Name other data, or an audio mode: `ltx new` lists the modes.",
        )
    rates = Counter(float(info.rate) for info in found.infos if info.rate is not None)
    heard = [info.duration for info in found.infos if info.sound_rate is not None and info.duration is not None]
    silent = found.silent if heard and "audio" in mode.parts else 0
    captioned, uncaptioned = seen, 0
    if found.data.is_folder and not mode.columns and not all(sample.caption.strip() for sample in seen):
        named = survey_dataset(path, attrs.evolve(options, caption_from="folder"))[0]
        if len(named.samples) == len(found.data.samples):  # otherwise masks and references would get captions too, as clips of their own
            captioned, uncaptioned = list(named.samples), sum(not sample.caption.strip() for sample in seen)
    captions = (sample.caption.strip() for sample in captioned)
    clips = Clips(
        len(seen) - (0 if mode.takes_silent_clips else silent),
        found.sizes,
        min(heard, default=0.0),
        max(rates, key=lambda rate: (rates[rate], rate), default=0.0),
        next(filter(None, captions), ""),
        silent,
        found.uneven if "video" in mode.parts else 0,
        uncaptioned,
    )
    return clips, found
