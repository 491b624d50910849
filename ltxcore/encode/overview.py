"""The summary of a dataset that `ltx check` prints before anything is encoded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset, Sample, survey_dataset
from ltxcore.encode.auto_buckets import Chosen, buckets_for
from ltxcore.encode.begun import known_windows
from ltxcore.encode.buckets import Bucket, buckets_line, proposed_buckets
from ltxcore.encode.encoding import encoding_as_far
from ltxcore.encode.roots import default_root
from ltxcore.encode.rules import sizes_of
from ltxcore.encode.sample_sizes import Looked, Rules, files_of, look_at, unreadable
from ltxcore.encode.survey import spread
from ltxcore.encode.work import TEXT
from ltxcore.errors import DataError, Problem
from ltxcore.media.probe import MediaInfo
from ltxcore.progress import Phase
from ltxcore.protocols import MODALITIES
from ltxcore.workers import usual_workers


@attrs.frozen(eq=False)
class Overview:
    """The contents of a dataset, which are found without encoding it.

    Attributes:
        data: the rows without mistakes.
        root: the folder where the samples are, or will be.
        infos: the descriptions of the opened clips, pictures and audio files of these rows, without companions such as masks.
        sizes: the buckets that fit the clips and pictures; empty if no clip or picture can be read.
        problems: the problems that prevent using the dataset.
        others: the number of files that were not opened.
        samples: the samples that the rows become: their windows, if the options ask for any.
        chosen: the buckets that are chosen for the clips, if the options ask for that; None if they do not.
        silent: the number of opened rows whose clip or picture has no audio.
    """

    data: Dataset
    root: Path
    infos: tuple[MediaInfo, ...]
    sizes: tuple[Bucket, ...]
    problems: tuple[Problem, ...]
    others: int = 0
    samples: tuple[Sample, ...] = ()
    chosen: Chosen | None = None
    silent: int = 0

    @property
    def buckets(self) -> str:
        """The buckets that fit the clips and pictures, as a line of a run file; "" if no clip or picture can be read."""
        return buckets_line(self.sizes) if self.sizes else ""

    @property
    def uneven(self) -> int:
        """The number of opened clips with a variable frame rate."""
        return sum(info.uneven is not None for info in self.infos)


def overview(path: Path, options: PreprocessingTable, phase: Phase) -> Overview:
    """Look at every row of a dataset, and open at most `survey.MOST_OPENED` of its files, the same ones each time. Nothing is written.

    Args:
        path: a dataset file, or a folder of media.
        options: the options of preprocessing.
        phase: a function that shows progress.

    Raises:
        DataError: there is no such dataset, or there are no rows to look at.
    """
    root = default_root(path, options)
    data, problems = _survey(path, attrs.evolve(options, lora_trigger=None, caption_prefix=None))
    if not data.samples:
        raise DataError.of([*problems, *data.left_out])
    some = attrs.evolve(data, samples=tuple(spread(data.samples)))
    looked = _look(some, root, phase)
    main = {path for sample in some.samples for role, path in sample.media.items() if role in MODALITIES}
    infos = [info for path, info in looked.infos.items() if path in main and isinstance(info, MediaInfo)]
    encoding = encoding_as_far(some, root, options, None, str, list[Problem]())
    sizes = sizes_of(some, looked, encoding.rules)
    unread = [problem for sample in some.samples for problem in unreadable(sample, looked)]
    others = len(files_of(data.samples)) - len(files_of(some.samples))
    if options.on_error == "skip":
        data = attrs.evolve(data, left_out=(*data.left_out, *unread))
        unread = unread if len(infos) == 0 else []
    buckets, samples = proposed_buckets(sizes, _scale()) if sizes else (), known_windows(data, root, options).samples
    chosen = buckets_for(some, looked, encoding)
    silent = sum(isinstance(info := looked.infos.get(each.sound), MediaInfo) and info.sound_rate is None for each in some.samples)
    return Overview(data, root, tuple(infos), buckets, (*problems, *unread), others, samples, chosen, silent)


def lines(found: Overview) -> Iterator[tuple[str, str]]:
    """Yield the lines of an overview, as names and values, for printing."""
    clips = [info for info in found.infos if info.frames is not None and not info.is_image]
    images = [info for info in found.infos if info.is_image]
    sounds = [info for info in found.infos if info.frames is None]
    if clips:
        silent = sum(info.sound_rate is None for info in clips)
        sound = "all with audio" if not silent else "none with audio" if silent == len(clips) else f"{len(clips) - silent} with audio"
        frames = _range([info.frames or 0 for info in clips], "{}", "frames", "frame")
        rates = _range([float(info.rate or 0) for info in clips], "{:g}", "per second")
        yield "clips", f"{len(clips)}: {_sizes(clips)}, {frames}, {rates}, {sound}"
    if images:
        yield "images", f"{len(images)}: {_sizes(images)}"
    if sounds:
        yield "sounds", f"{len(sounds)}: {_range([info.duration or 0.0 for info in sounds], '{:.2f}', 's')}"
    if companions := _companions(found.data):
        yield "companions", companions
    if TEXT in found.data.folders:
        captioned = [sample for sample in found.data.samples if sample.caption.strip()]
        words = [len(caption.split()) for sample in captioned for caption in sample.captions]
        several = f", {_range([len(sample.captions) for sample in captioned], '{}', 'each')}" if len(words) > len(captioned) else ""
        told = f": {_range(words, '{}', 'words', 'word')}" if words else ""
        yield "captions", f"{len(captioned)} of {len(found.data.samples)}{several}{told}"
    if found.samples != found.data.samples:
        yield "windows", f"{len(found.samples)} samples of {len(found.data.samples)} rows"
    yield "encoded in", f"{found.root}" + ("" if found.root.is_dir() else " (not yet encoded)")


def _companions(data: Dataset) -> str:
    """Return the number of files of each column whose files go with a clip, a picture or an audio file, such as masks."""
    files: dict[str, set[Path]] = {}
    for sample in data.samples:
        for role, path in sample.media.items():
            files.setdefault(role, set()).add(path)
    return ", ".join(f"{len(paths)} {role}" for role, paths in sorted(files.items()) if role not in MODALITIES)


def _survey(path: Path, options: PreprocessingTable) -> tuple[Dataset, tuple[Problem, ...]]:
    """Read the rows as a run would, and leave out audio if its rows cannot be read."""
    try:
        return survey_dataset(path, options)
    except DataError:
        if options.skip_audio:
            raise
    return survey_dataset(path, attrs.evolve(options, skip_audio=True))


def _look(data: Dataset, root: Path, phase: Phase) -> Looked:
    raw = RawFiles(root, data.folder.absolute(), writes=False)
    return look_at(
        data.samples, Rules(data.columns, data.folders), raw, usual_workers(), phase("files", len(files_of(data.samples))), listens=False
    )


def _scale() -> Sequence[int]:
    """Return how many pixel frames, rows and columns a latent cell covers in all models of the family."""
    return Codecs("tiny", device="cpu").video().scale


def _sizes(infos: Collection[MediaInfo]) -> str:
    ordered = sorted({(info.width or 0, info.height or 0) for info in infos}, key=lambda size: size[0] * size[1])
    told = [f"{width} x {height}" for width, height in ordered]
    if len(told) > 3:
        return f"{told[0]} to {told[-1]} pixels ({len(told)} sizes)"
    return f"{', '.join(told)} pixels"


def _range(numbers: Iterable[float], form: str, unit: str, unit_of_one: str = "") -> str:
    ordered = sorted(set(numbers))
    if ordered == [1] and unit_of_one:
        unit = unit_of_one
    first, last = form.format(ordered[0]), form.format(ordered[-1])
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"
