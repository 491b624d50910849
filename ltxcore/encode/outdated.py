"""Functions that find samples whose files are now read differently than when the samples were encoded, and that tell the reason.

A correction concerns something in files that version 0.1.0 read wrongly and this version reads correctly.

A file to which no correction applies is read as it always was. The corrections that apply are named among a sample's ingredients. In sets
that 0.1.0 encoded, this makes exactly those samples stale that have files to which corrections apply, and tells the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import attrs

from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.products import Product, Tools, media_folders, product_of
from ltxcore.encode.sample_sizes import STORED_MASKS, Planned, Rules
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import DataError, listed
from ltxcore.protocols import Entry

SHOWN = 3
"""The maximum number of sample names to list for a reason."""

Maker = Callable[[str, Planned, Mapping[str, Entry]], Product]
"""A function that returns the product that would be made now for a folder of a planned sample, given the sample's encoded files."""


@attrs.frozen
class Before:
    """An encoded sample that was made from the files that the dataset names, and to which corrections apply.

    Attributes:
        planned: the plan that the sample was made by; corrections may change its size and length.
        since: the sorted names, in `CORRECTIONS`, of the corrections made since the sample was encoded; empty if its files were read
            as now.
    """

    planned: Planned
    since: tuple[str, ...]


def as_made(sample: Sample, entries: Mapping[str, Entry], rules: Rules, tools: Tools, maker: Maker | None = None) -> Before | None:
    """Find out how a sample to which corrections apply was made.

    The result is None if no correction applies to it, or if the sample was made from different files or in a different way.

    Args:
        sample: the dataset's row.
        entries: the entries of its encoded files, by folder.
        rules: the rules that samples are planned by.
        tools: the tools, which know the facts about the files.
        maker: a function that returns what would be made now; by default, the one that preprocessing uses.
    """
    maker = maker or (lambda folder, planned, there: product_of(folder, planned, tools, there))
    folders = [folder for folder in media_folders(tools.columns) if folder in entries]
    try:
        if not folders or not any(_corrected(sample, tools)):
            return None
        for planned in _plans(sample, entries, rules, tools):
            products = [maker(folder, planned, entries) for folder in folders]
            if not any(product.corrections for product in products):  # the corrections concern unused parts of the files
                return None
            since = [product.set_right_since(entries[product.folder].fingerprint) for product in products]
            known = [each for each in since if each is not None]
            if len(known) == len(since):
                return Before(planned, tuple(sorted({name for each in known for name in each})))
    except (DataError, KeyError, ValueError):  # its files cannot be read any more, or some that it was made from are missing
        return None
    return None


def as_begun(root: Path, data: Dataset, rules: Rules, tools: Tools) -> dict[str, Planned]:
    """Return the plans, by name, that a dataset's complete samples were made by, for samples to which corrections apply.

    A sample may have been made before a correction or since.
    """
    held = {folder: read_source(root, folder) for folder in data.folders}
    found: dict[str, Planned] = {}
    for sample in data.samples:
        entries = {folder: source[sample.name] for folder, source in held.items() if sample.name in source}
        if data.folders - entries.keys() in {frozenset[str](), *data.absent} and all(entry.finite for entry in entries.values()):
            before = as_made(sample, entries, rules, tools)
            if before is not None:
                found[sample.name] = attrs.evolve(before.planned, folders=data.folders & entries.keys(), without=before.since)
    return found


def told_by_reason(samples: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[int, str, str]]:
    """Group samples by their corrections, and yield each group's size, its corrections in words, and its first names.

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
    """Yield the plans that a sample may have been made by: with the size of its latents, or else with every possible size and length."""
    folders = frozenset(entries)
    clip = tools.raw.info(sample.media["video"]) if "video" in sample.media else None
    if "latents" in entries:
        for rate in dict.fromkeys((None if clip is None else clip.rate, exact_rate(entries["latents"].rate))):
            bucket = _size(entries["latents"], tools)
            yield Planned(sample, bucket, bucket.frames / rate if rate else None, folders)
        return
    buckets = [*rules.buckets]
    if not buckets and clip is not None and clip.frames:  # no size is set, so all clips had the same size, and audio as long as they
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
    """Recover the exact frames per second that a container stated, as the simplest fraction that rounds to the stored float."""
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
"""The corrections since 0.1.0, by name. Each is worded as the end of a sentence, as in "encoded again, since its HDR frames are converted
to BT.709 now".
"""


def told(corrections: tuple[str, ...]) -> str:
    """Return the descriptions of corrections, joined by semicolons."""
    return "; ".join(CORRECTIONS[name] for name in corrections)
