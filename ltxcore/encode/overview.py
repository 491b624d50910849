"""The summary of a dataset that `ltx check` prints before anything is encoded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset, survey_dataset
from ltxcore.encode.buckets import Bucket, buckets_line, proposed_buckets
from ltxcore.encode.roots import default_root
from ltxcore.encode.rules import sizes_of
from ltxcore.encode.sample_sizes import Looked, files_of, look_at, unreadable
from ltxcore.encode.survey import spread
from ltxcore.encode.work import TEXT
from ltxcore.errors import DataError, Problem
from ltxcore.media.probe import MediaInfo
from ltxcore.progress import Phase
from ltxcore.workers import usual_workers


@attrs.frozen(eq=False)
class Overview:
    """The contents of a dataset, before it is encoded.

    Attributes:
        data: the rows without mistakes. root: the folder where its samples are, or will be.
        infos: the descriptions of the files of these rows that were opened.
        sizes: the buckets that fit its clips and pictures; empty if it has none that can be read.
        problems: the problems that stand in the way of using it.
        others: the number of files that were not opened.
    """

    data: Dataset
    root: Path
    infos: tuple[MediaInfo, ...]
    sizes: tuple[Bucket, ...]
    problems: tuple[Problem, ...]
    others: int = 0

    @property
    def buckets(self) -> str:
        """The line of a run file that fits its clips and pictures; "" if it has none that can be read."""
        return buckets_line(self.sizes) if self.sizes else ""


def overview(path: Path, options: PreprocessingTable, phase: Phase) -> Overview:
    """Look at every row of a dataset, and open some of its files: at most `survey.MOST_OPENED`, the same ones each
    time. Nothing is written.

    Args:
        path: a dataset file, or a folder of media.
        options: the options that it would be encoded with.
        phase: a function that shows progress.

    Raises:
        DataError: there is no such dataset, or there are no rows to look at.
    """
    root = default_root(path, options)
    data, problems = _survey(path, attrs.evolve(options, lora_trigger=None))
    if not data.samples:
        raise DataError.of([*problems, *data.left_out])
    some = attrs.evolve(data, samples=tuple(spread(data.samples)))
    looked = _look(some, root, phase)
    infos = [info for info in looked.infos.values() if isinstance(info, MediaInfo)]
    sizes = sizes_of(some, looked)
    unread = [problem for sample in some.samples for problem in unreadable(sample, looked)]
    others = len(files_of(data.samples)) - len(files_of(some.samples))
    if options.on_error == "skip":
        data = attrs.evolve(data, left_out=(*data.left_out, *unread))
        unread = unread if len(infos) == 0 else []
    return Overview(data, root, tuple(infos), proposed_buckets(sizes, _scale()) if sizes else (), (*problems, *unread), others)


def lines(found: Overview) -> Iterator[tuple[str, str]]:
    """Yield the names and values of an overview, to be printed."""
    clips = [info for info in found.infos if info.frames is not None and not info.is_image]
    images = [info for info in found.infos if info.is_image]
    sounds = [info for info in found.infos if info.frames is None]
    if clips:
        silent = sum(info.sound_rate is None for info in clips)
        sound = "all with audio" if not silent else "none with audio" if silent == len(clips) else f"{len(clips) - silent} with audio"
        frames = _range([info.frames or 0 for info in clips], "{}", "frames")
        rates = _range([float(info.rate or 0) for info in clips], "{:g}", "per second")
        yield "clips", f"{len(clips)}: {_sizes(clips)}, {frames}, {rates}, {sound}"
    if images:
        yield "images", f"{len(images)}: {_sizes(images)}"
    if sounds:
        yield "sounds", f"{len(sounds)}: {_range([info.duration or 0.0 for info in sounds], '{:.2f}', 's')}"
    if TEXT in found.data.folders:
        words = [len(sample.caption.split()) for sample in found.data.samples if sample.caption.strip()]
        yield "captions", f"{len(words)} of {len(found.data.samples)}" + (f": {_range(words, '{}', 'words')}" if words else "")
    yield "encoded in", f"{found.root}" + ("" if found.root.is_dir() else " (not yet encoded)")


def _survey(path: Path, options: PreprocessingTable) -> tuple[Dataset, tuple[Problem, ...]]:
    """Read the rows as a run would, with audio if there is any."""
    try:
        return survey_dataset(path, options)
    except DataError:
        if options.skip_audio:
            raise
    return survey_dataset(path, attrs.evolve(options, skip_audio=True))


def _look(data: Dataset, root: Path, phase: Phase) -> Looked:
    raw = RawFiles(root, data.folder.absolute(), writes=False)
    return look_at(data.samples, raw, usual_workers(), phase("files", len(files_of(data.samples))), listens=False)


def _scale() -> Sequence[int]:
    """Return how many pixel frames, rows and columns a latent cell covers, in all models of the family."""
    return Codecs("tiny", device="cpu").video().scale


def _sizes(infos: Collection[MediaInfo]) -> str:
    ordered = sorted({(info.width or 0, info.height or 0) for info in infos}, key=lambda size: size[0] * size[1])
    told = [f"{width} x {height}" for width, height in ordered]
    if len(told) > 3:
        return f"{told[0]} to {told[-1]} pixels ({len(told)} sizes)"
    return f"{', '.join(told)} pixels"


def _range(numbers: Iterable[float], form: str, unit: str) -> str:
    ordered = sorted(set(numbers))
    first, last = form.format(ordered[0]), form.format(ordered[-1])
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"
