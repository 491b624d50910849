"""Detection of samples whose files are now read differently than when they were encoded, with the reason; it is found
from what they were made of.

A correction is something that version 0.1.0 read wrongly and this version reads correctly.

A file is read as it always was unless a correction applies to it. Each correction is named among a sample's
ingredients, so that the samples of such files, and only those, are stale in sets that 0.1.0 encoded, and the reason can
be told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset, Sample, read_dataset
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.products import RECIPES, Product, Tools
from ltxcore.encode.sample_sizes import STORED_MASKS, Planned, Rules
from ltxcore.encoded.listing import whole_samples
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import DataError, listed
from ltxcore.protocols import Entry

SHOWN = 3
"""The number of samples to name among those with one reason."""

Maker = Callable[[str, Planned, Mapping[str, Entry]], Product]
"""A function that returns the product that would be made now for a folder of a planned sample, given its encoded files."""


@attrs.frozen
class Before:
    """An encoded sample, made from the files that the dataset names, for which the reading of files has been corrected.

    Attributes:
        planned: the size and length that it was made for; with corrections they may differ.
        since: the corrections made since, by the names of `CORRECTIONS`, sorted; empty if it was read as now.
    """

    planned: Planned
    since: tuple[str, ...]


def as_made(sample: Sample, entries: Mapping[str, Entry], rules: Rules, tools: Tools, maker: Maker | None = None) -> Before | None:
    """Find out how a sample was made if the reading of its files has been corrected since; None if it has not, or if
    the sample was made from other files or in another way.

    Args:
        sample: the dataset's row.
        entries: the entries of its encoded files, by folder.
        rules: the rules that samples are planned by.
        tools: the tools, which know the files.
        maker: a function that returns what would be made now; by default, the one that preprocessing uses.
    """
    maker = maker or (lambda folder, planned, there: RECIPES[folder](planned, tools, there))
    folders = [folder for folder in RECIPES if folder in entries]
    try:
        if not folders or not any(_corrected(sample, tools)):
            return None
        for planned in _plans(sample, entries, rules, tools):
            products = [maker(folder, planned, entries) for folder in folders]
            if not any(product.corrections for product in products):  # the correction concerns a part of the files that is not used
                return None
            since = [product.set_right_since(entries[product.folder].fingerprint) for product in products]
            known = [each for each in since if each is not None]
            if len(known) == len(since):
                return Before(planned, tuple(sorted({name for each in known for name in each})))
    except (DataError, KeyError, ValueError):  # its files cannot be read any more, or there are fewer than it was made from
        return None
    return None


def as_begun(root: Path, data: Dataset, rules: Rules, tools: Tools) -> dict[str, Planned]:
    """Return the samples of a dataset that are complete and whose files are now read differently, as they were planned
    when they were made: before the correction, or since.
    """
    held = {folder: read_source(root, folder) for folder in data.folders}
    found: dict[str, Planned] = {}
    for sample in data.samples:
        entries = {folder: source[sample.name] for folder, source in held.items() if sample.name in source}
        if data.folders <= entries.keys() and all(entry.finite for entry in entries.values()):
            before = as_made(sample, entries, rules, tools)
            if before is not None:
                found[sample.name] = attrs.evolve(before.planned, folders=data.folders, without=before.since)
    return found


def whole_already(dataset: Path, root: Path, options: PreprocessingTable, folders: Collection[str]) -> tuple[str, ...]:
    """Return the names of a dataset's samples that are encoded in all folders that a run reads, up to date or not.

    Raises:
        DataError: the dataset cannot be read.
    """
    data = read_dataset(dataset, options, folders, root)
    return whole_samples(root, data.folders, [sample.name for sample in data.samples])


def only_rows(data: Dataset, names: Collection[str]) -> Dataset:
    """Keep only the rows of the samples that a run began with, with a note if there are others."""
    samples = tuple(sample for sample in data.samples if sample.name in names)
    others = len(data.samples) - len(samples)
    if not others:
        return data
    rows = "1 row is" if others == 1 else f"{others} rows are"
    what = f"{rows} left out, because this run began with the other {len(samples)}; `ltx preprocess`, or --allow-changes, adds those that can be read"
    return attrs.evolve(data, samples=samples, notes=(*data.notes, f"{data.path}: {what}"))


def told_by_reason(samples: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[int, str, str]]:
    """Group samples by reason: how many there are, the reason in words, and the first names.

    Args:
        samples: the corrections of each sample, by its name.
    """
    by_reason: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(samples):
        by_reason.setdefault(samples[name], []).append(name)
    for reason, names in sorted(by_reason.items()):
        yield len(names), told(reason), listed(names, SHOWN)


def _corrected(sample: Sample, tools: Tools) -> Iterator[str]:
    for path in sample.media.values():
        if path.suffix.lower() not in STORED_MASKS:
            info = tools.raw.info(path)
            yield from (*info.picture_corrections, *info.sound_corrections)


def _plans(sample: Sample, entries: Mapping[str, Entry], rules: Rules, tools: Tools) -> Iterator[Planned]:
    """Reconstruct the sizes and lengths that a sample may have been made for: those of its latents, or all that are possible."""
    folders = frozenset(entries)
    clip = tools.raw.info(sample.media["video"]) if "video" in sample.media else None
    if "latents" in entries:
        for rate in dict.fromkeys((None if clip is None else clip.rate, exact_rate(entries["latents"].rate))):
            bucket = _size(entries["latents"], tools)
            yield Planned(sample, bucket, bucket.frames / rate if rate else None, folders)
        return
    buckets = [*rules.buckets]
    if not buckets and clip is not None and clip.frames:  # no size is given: all clips had the same one, and their audio is as long
        buckets = [Bucket(clip.width or 0, clip.height or 0, clip.frames)]
    for bucket in buckets:
        yield Planned(sample, bucket, bucket.frames / clip.rate if clip is not None and clip.rate else None, folders)
    for duration in (None, *(Fraction(str(each)) for each in rules.durations)):
        yield Planned(sample, None, duration, folders)


def _size(entry: Entry, tools: Tools) -> Bucket:
    if tools.video is None:
        raise ValueError("video needs its VAE")
    _, frames, height, width = entry.shape
    time, down, across = tools.video.scale
    return Bucket(width * across, height * down, (frames - 1) * time + 1)


def exact_rate(rate: float | None) -> Fraction | None:
    """Recover the exact frames per second that a container stated: the simplest fraction that rounds to the stored
    float.
    """
    if not rate:
        return None
    fractions = (Fraction(rate).limit_denominator(most) for most in (1001, 10**4, 10**6, 2**26))
    return next((fraction for fraction in fractions if float(fraction) == rate), None)


CORRECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "alpha": "transparent parts show a background, not the colour stored under them",
        "animation": "all frames of an animated AVIF or HEIC are read, not only its cover image",
        "hdr": "its HDR frames are converted to BT.709",
        "shown_rate": "the frame rate is that of the frames that are shown, not the one that the container states",
        "sound_in_time": "each part of its audio is placed by its time stamp, counted from the first frame that is shown",
        "square_pixels": "pixels that are not square are stretched to square ones",
        "turned": "the image is rotated as its metadata say",
    }
)
"""The corrections since 0.1.0, by name, each as the end of a sentence: "the picture is turned as its metadata say"."""


def told(corrections: tuple[str, ...]) -> str:
    """Describe corrections in words."""
    return "; ".join(CORRECTIONS[name] for name in corrections)
