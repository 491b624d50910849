"""The state of a dataset's encoding: the samples that are up to date, and those that the first run encodes, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import attrs

from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.outdated import as_made, told
from ltxcore.encode.products import RECIPES, Product
from ltxcore.encode.sample_sizes import SOUND_FOLDERS, STORED_MASKS, VIDEO_FOLDERS, Planned
from ltxcore.encode.survey import Survey
from ltxcore.encode.work import TEXT, text_product
from ltxcore.encoded.listing import Listing, list_folder
from ltxcore.encoded.sample_names import find_sample
from ltxcore.errors import DataError
from ltxcore.protocols import Entry, TextEncoder

FAULT = "their encoded files were changed or damaged"
UNKNOWN = "it is unknown what they were made from"
MODEL = "the model or its encoder options have changed"
CAPTION = "their captions have changed"
MEDIA = "their files or preprocessing options have changed"
"""The last of the five reasons above why a sample is encoded anew, each written as the end of a sentence."""


@attrs.frozen
class Standing:
    """The state of the encoding of a dataset's samples.

    Attributes:
        fresh: the names of the samples that are encoded as they would be now, as far as that can be known without
            reading their media.
        missing: the names of the samples that are not encoded.
        anew: the names of the samples that are encoded anew, by reason.
    """

    fresh: tuple[str, ...]
    missing: tuple[str, ...]
    anew: Mapping[str, tuple[str, ...]]

    @property
    def encodes(self) -> int:
        """The number of samples that the first run encodes."""
        return len(self.missing) + sum(len(names) for names in self.anew.values())


def standing_of(data: Dataset, seen: Survey) -> Standing:
    """Find the state of a dataset's samples, without those that are left out. Nothing is written, and no media file is
    read.

    Args:
        data: the dataset.
        seen: the survey of its files.

    Raises:
        DataError: a folder of encoded samples cannot be read.
    """
    root, names = seen.encoding.root, [sample.name for sample in data.samples]
    held = {folder: list_folder(root / folder, names, remember=False) for folder in sorted(data.folders)}
    planned = {each.sample.name: each for each in seen.planned if seen.has_sizes and seen.encoding.codecs is not None}
    fresh, missing, anew = [], [], dict[str, list[str]]()
    for sample in (each for each in data.samples if each.name not in seen.unfit):
        why = _why_anew(sample, planned.get(sample.name), held, seen)
        if why is None:
            fresh.append(sample.name)
        elif not why:
            missing.append(sample.name)
        else:
            anew.setdefault(why, []).append(sample.name)
    return Standing(tuple(fresh), tuple(missing), {why: tuple(samples) for why, samples in anew.items()})


def _why_anew(sample: Sample, planned: Planned | None, held: Mapping[str, Listing], seen: Survey) -> str | None:
    """Return the reason why a sample is encoded anew; "" if it is missing, None if it is up to date."""
    name = sample.name
    if any(name in listing.at_fault for listing in held.values()):
        return FAULT
    entries = {folder: listing.entries[name] for folder, listing in held.items() if name in listing.entries}
    if len(entries) < len(held):
        return ""
    if not all(entry.finite for entry in entries.values()):
        return FAULT
    if not all(entry.fingerprint for entry in entries.values()):
        return UNKNOWN
    expected = dict(_encoders(seen))
    if any(entry.encoder != expected.get(folder, entry.encoder) for folder, entry in entries.items()):
        return MODEL
    if TEXT in entries and _is_of_another_caption(sample, entries[TEXT], seen.encoding.text):
        return CAPTION
    return MEDIA if planned is not None and _is_of_other_media(planned, entries, seen) else None


@attrs.frozen
class Stale:
    """An encoded file that would come out differently if it were made now.

    Attributes:
        sample: the sample that it belongs to.
        folder: the folder that it is in; "" for every file of the sample that is made from its media.
        path: the file.
        made_otherwise: whether another encoder made it, not only another media file or caption.
        since: the corrections in reading its media since, in words; "" if there are none.
    """

    sample: Sample
    folder: str
    path: Path
    made_otherwise: bool = False
    since: str = ""


def stale(found: Survey, folders: Collection[str], step: Callable[[], None]) -> Iterator[Stale]:
    """Find the encoded files of a dataset that would come out differently if they were made now; their media are read.
    If the model is not known, whatever encoder made a file is taken for the right one.

    Args:
        found: the survey of the dataset.
        folders: the folders to look at.
        step: a function that is called after each sample.
    """
    root, names = found.encoding.root, [planned.sample.name for planned in found.planned]
    listings = {folder: list_folder(root / folder, names, remember=False).entries for folder in (TEXT, *RECIPES) if folder in folders}
    for planned in found.planned:
        name = planned.sample.name
        yield from _stale(found, planned, {folder: held[name] for folder, held in listings.items() if name in held})
        step()


def _stale(found: Survey, planned: Planned, entries: Mapping[str, Entry]) -> Iterator[Stale]:
    sample, encoding = planned.sample, found.encoding

    def product_of(folder: str, planned: Planned, entries: Mapping[str, Entry]) -> Product:
        entry, text = entries[folder], encoding.text
        if folder == TEXT:
            return text_product(
                planned.sample.caption, *((entry.shape[0], entry.encoder) if text is None else (text.length, text.fingerprint))
            )
        product = RECIPES[folder](planned, encoding.tools, entries)
        return product if encoding.codecs is not None else attrs.evolve(product, encoder=entry.encoder)

    before = as_made(sample, entries, encoding.rules, encoding.tools, product_of)
    since = told(before.since) if before is not None and before.since else ""
    if since:
        yield Stale(sample, "", encoding.root, since=since)
    for folder, entry in entries.items():
        if since and folder != TEXT:
            continue
        if not entry.fingerprint or not entry.finite or (folder == "audio_masks" and "audio_latents" not in entries):
            continue
        try:
            product = product_of(folder, planned, entries)
        except DataError:  # its file cannot be read, which is reported elsewhere
            continue
        if product.fingerprint != entry.fingerprint:
            path = find_sample(encoding.root, folder, sample.name)
            yield Stale(sample, folder, path, made_otherwise=bool(product.encoder) and product.encoder != entry.encoder)


def _is_of_another_caption(sample: Sample, entry: Entry, encoder: TextEncoder | None) -> bool:
    return encoder is not None and entry.fingerprint != text_product(sample.caption, encoder.length, encoder.fingerprint).fingerprint


def _encoders(seen: Survey) -> Iterator[tuple[str, str]]:
    """Yield the fingerprint of the encoder that each folder would be made with now, if it is known."""
    if seen.encoding.codecs is None:
        return
    if seen.encoding.text is not None:
        yield TEXT, seen.encoding.text.fingerprint
    for codec, folders in (
        (seen.encoding.tools.video, VIDEO_FOLDERS - {"video_masks"}),
        (seen.encoding.tools.audio, SOUND_FOLDERS - {"audio_masks"}),
    ):
        if codec is not None:
            yield from ((folder, codec.fingerprint) for folder in folders)


def _is_of_other_media(planned: Planned, entries: Mapping[str, Entry], seen: Survey) -> bool:
    """Return whether other latents or masks would be made now; False if only reading a file could tell."""
    raw, sample = seen.encoding.tools.raw, planned.sample
    if planned.without:  # it stays as it is
        return False
    if not all(raw.knows_content(path) for path in sample.media.values() if path.suffix.lower() not in STORED_MASKS):
        return False
    try:
        products = [
            RECIPES[folder](planned, seen.encoding.tools, entries) for folder in RECIPES if folder in entries and folder in planned.folders
        ]
    except DataError:  # a file that cannot be read, which is reported elsewhere
        return False
    return any(product.fingerprint != entries[product.folder].fingerprint for product in products)
