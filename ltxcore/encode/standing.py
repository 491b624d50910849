"""The state of a dataset's encoding: the samples that are up to date, and the samples that the next run encodes, with reasons."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import attrs

from ltxcore.dataset.columns import Column
from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.outdated import as_made, told
from ltxcore.encode.products import Product, media_folders, product_of
from ltxcore.encode.sample_sizes import STORED_MASKS, Planned
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
"""The last of the five reasons for encoding samples again, each worded as the end of a sentence."""

UNREAD = "their files may have changed"
"""The reason for reading the files of samples again, which may turn out to be unchanged."""


@attrs.frozen(slots=False)
class Standing:
    """The state of the encoding of a dataset's samples.

    Attributes:
        fresh: the names of the samples that are up to date, as far as can be known without reading media.
        missing: the names of the samples that are not encoded.
        anew: the names of the samples that will be encoded again, by reason.
    """

    fresh: tuple[str, ...]
    missing: tuple[str, ...]
    anew: Mapping[str, tuple[str, ...]]

    @property
    def encodes(self) -> int:
        """The number of samples that the next run encodes."""
        return len(self.names)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of the samples that the next run encodes."""
        return frozenset(self.missing).union(*self.anew.values())

    @functools.cached_property
    def of_captions(self) -> frozenset[str]:
        """The names of the samples for which the next run encodes only the captions."""
        return frozenset(self.anew.get(CAPTION, ()))


def standing_of(data: Dataset, seen: Survey) -> Standing:
    """Find the state of those samples of a dataset that are not left out. Nothing is written, and no media file is read.

    Args:
        data: the dataset.
        seen: the survey of the dataset's files.

    Raises:
        DataError: a folder of encoded samples cannot be read.
    """
    root, names = seen.encoding.root, [sample.name for sample in data.samples]
    held = {folder: list_folder(root / folder, names, remember=False) for folder in sorted(data.folders)}
    samples = [sample for sample in data.samples if sample.name not in seen.unfit]
    if held and not any(listing.entries or listing.at_fault for listing in held.values()):
        return Standing((), tuple(sample.name for sample in samples), {})
    planned = {each.sample.name: each for each in seen.planned if seen.has_sizes and seen.encoding.codecs is not None}
    folders = {each.sample.name: each.folders for each in seen.planned} if data.absent else {}
    fresh, missing, anew = [], [], dict[str, list[str]]()
    for sample in samples:
        why = _why_anew(sample, planned.get(sample.name), folders.get(sample.name), held, seen)
        if why is None:
            fresh.append(sample.name)
        elif not why:
            missing.append(sample.name)
        else:
            anew.setdefault(why, []).append(sample.name)
    return Standing(tuple(fresh), tuple(missing), {why: tuple(names) for why, names in anew.items()})


def work_left(seen: Survey, held: Mapping[str, Listing]) -> Standing:
    """Find the state of all samples that can be made, also in part, as `standing_of` does. Samples whose state is not known before their
    files are read count as samples to encode again.

    Args:
        seen: the survey of the dataset's files.
        held: the listings of the folders that are made; a folder without one counts as empty.
    """
    fresh, missing, anew = list[str](), list[str](), dict[str, list[str]]()
    for planned in seen.planned:
        name, wanted = planned.sample.name, {folder: held.get(folder, Listing({})) for folder in planned.folders}
        why = _why_anew(planned.sample, planned, frozenset(planned.folders), wanted, seen)
        if why is None and not planned.without and not _knows_content(planned, seen):
            why = UNREAD
        (fresh if why is None else anew.setdefault(why, []) if why else missing).append(name)
    return Standing(tuple(fresh), tuple(missing), {why: tuple(names) for why, names in anew.items()})


def _why_anew(
    sample: Sample, planned: Planned | None, folders: frozenset[str] | None, held: Mapping[str, Listing], seen: Survey
) -> str | None:
    """Return the reason for encoding a sample again; "" if the sample is missing, None if it is up to date.

    Args:
        sample: the dataset's row.
        planned: the plan for the sample; None if it is not known.
        folders: the folders that the sample has data for, if samples may lack a modality; None if they are not known.
        held: the folders of the dataset.
        seen: the survey of the dataset's files.
    """
    name = sample.name
    if any(name in listing.at_fault for listing in held.values()):
        return FAULT
    entries = {folder: listing.entries[name] for folder, listing in held.items() if name in listing.entries}
    lacks = frozenset(held.keys() - entries.keys())
    if lacks not in {frozenset[str](), *seen.encoding.data.absent} or (folders is not None and folders - entries.keys()):
        return ""
    if folders is not None and entries.keys() - folders:  # its file no longer has the modality
        return MEDIA
    if not all(entry.finite for entry in entries.values()):
        return FAULT
    if not all(entry.fingerprint for entry in entries.values()):
        return UNKNOWN
    expected = dict(_encoders(seen))
    if any(entry.encoder != expected.get(folder, entry.encoder) for folder, entry in entries.items()):
        return MODEL
    if planned is not None and _is_of_other_media(planned, entries, seen):
        return MEDIA
    return CAPTION if TEXT in entries and _is_of_another_caption(sample, entries[TEXT], seen.encoding.text) else None


@attrs.frozen
class Stale:
    """An encoded file that would be different if it were made now.

    Attributes:
        sample: the sample that the file belongs to.
        folder: the folder that the file is in; "" stands for all of the sample's files that are made from media.
        path: the path of the file.
        made_otherwise: whether the encoder differs, rather than only the media file or the caption.
        since: the corrections made since the file was encoded, in words; "" if there are none.
    """

    sample: Sample
    folder: str
    path: Path
    made_otherwise: bool = False
    since: str = ""


def stale(found: Survey, folders: Collection[str], step: Callable[[], None]) -> Iterator[Stale]:
    """Find the encoded files of a dataset that would be different if they were made now.

    Media files are read. If the model is not known, the encoder that made a file is taken to be the right one.

    Args:
        found: the survey of the dataset.
        folders: the folders to look at.
        step: a function that is called after each sample.
    """
    root, names = found.encoding.root, [planned.sample.name for planned in found.planned]
    known = (TEXT, *media_folders(found.encoding.tools.columns))
    listings = {folder: list_folder(root / folder, names, remember=False).entries for folder in known if folder in folders}
    for planned in found.planned:
        name = planned.sample.name
        yield from _stale(found, planned, {folder: held[name] for folder, held in listings.items() if name in held})
        step()


def _stale(found: Survey, planned: Planned, entries: Mapping[str, Entry]) -> Iterator[Stale]:
    sample, encoding, columns = planned.sample, found.encoding, found.encoding.tools.columns

    def made_now(folder: str, planned: Planned, entries: Mapping[str, Entry]) -> Product:
        entry, text = entries[folder], encoding.text
        if folder == TEXT:
            return text_product(
                planned.sample.captions, *((entry.shape[0], entry.encoder) if text is None else (text.length, text.fingerprint))
            )
        product = product_of(folder, planned, encoding.tools, entries)
        return product if encoding.codecs is not None else attrs.evolve(product, encoder=entry.encoder)

    before = as_made(sample, entries, encoding.rules, encoding.tools, made_now)
    since = told(before.since) if before is not None and before.since else ""
    if since:
        yield Stale(sample, "", encoding.root, since=since)
    for folder, entry in entries.items():
        if since and folder != TEXT:
            continue
        if not entry.fingerprint or not entry.finite or (_waits(columns.by_folder.get(folder)) and "audio_latents" not in entries):
            continue
        try:
            product = made_now(folder, planned, entries)
        except DataError:  # the file cannot be read, which is reported elsewhere
            continue
        if product.fingerprint != entry.fingerprint:
            path = find_sample(encoding.root, folder, sample.name)
            yield Stale(sample, folder, path, made_otherwise=bool(product.encoder) and product.encoder != entry.encoder)


def _waits(column: Column | None) -> bool:
    """Return whether a column is made for the length of the audio that is already encoded."""
    return column is not None and column.takes_size and column.modality == "audio"


def _is_of_another_caption(sample: Sample, entry: Entry, encoder: TextEncoder | None) -> bool:
    return encoder is not None and entry.fingerprint != text_product(sample.captions, encoder.length, encoder.fingerprint).fingerprint


def _encoders(seen: Survey) -> Iterator[tuple[str, str]]:
    """Yield each folder with the fingerprint of the encoder that it would be made with now, if this is known."""
    if seen.encoding.codecs is None:
        return
    if seen.encoding.text is not None:
        yield TEXT, seen.encoding.text.fingerprint
    tools = seen.encoding.tools
    for column in tools.columns.all:
        codec = tools.video if column.modality == "video" else tools.audio
        if column.kind in ("latents", "pictures") and codec is not None:
            yield column.folder, codec.fingerprint


def _is_of_other_media(planned: Planned, entries: Mapping[str, Entry], seen: Survey) -> bool:
    """Return whether a sample's latents or masks would be different if they were made now; False if finding out would take reading a
    file.
    """
    if planned.without or not _knows_content(planned, seen):  # the run keeps the sample as it is, or its files would have to be read
        return False
    try:
        made = [folder for folder in media_folders(seen.encoding.tools.columns) if folder in entries and folder in planned.folders]
        products = [product_of(folder, planned, seen.encoding.tools, entries) for folder in made]
    except DataError:  # a file that cannot be read, which is reported elsewhere
        return False
    return any(product.fingerprint != entries[product.folder].fingerprint for product in products)


def _knows_content(planned: Planned, seen: Survey) -> bool:
    """Return whether the fingerprints of a sample's files are known, so that no file has to be read for them."""
    raw = seen.encoding.tools.raw
    return all(raw.knows_content(path) for path in planned.sample.files if path.suffix.lower() not in STORED_MASKS)
