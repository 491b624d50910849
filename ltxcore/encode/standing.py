"""How a dataset stands: which of its samples are encoded as they would be now, and which the first run encodes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.glance import Glance
from ltxcore.encode.products import RECIPES
from ltxcore.encode.sample_sizes import SOUND_FOLDERS, STORED_MASKS, VIDEO_FOLDERS, Planned
from ltxcore.encode.work import TEXT, text_product
from ltxcore.encoded.listing import Listing, list_folder
from ltxcore.errors import DataError
from ltxcore.protocols import Entry, TextEncoder

FAULT = "their encoded files are not as they were written"
UNKNOWN = "it is not known what they were made of"
MODEL = "they were made by another model's encoders, or by other options of these"
CAPTION = "their captions are other ones now"
MEDIA = "their files, or the options that they are fitted by, are other ones now"
"""Why a sample is encoded anew, as the end of a sentence."""


@attrs.frozen
class Standing:
    """How the samples of a dataset stand.

    Attributes:
        fresh: names of those that are encoded as they would be now, as far as that can be known without reading their media.
        missing: names of those that are not encoded.
        anew: names of those that are encoded anew, by reason.
    """

    fresh: tuple[str, ...]
    missing: tuple[str, ...]
    anew: Mapping[str, tuple[str, ...]]

    @property
    def encodes(self) -> int:
        """How many the first run encodes."""
        return len(self.missing) + sum(len(names) for names in self.anew.values())


def standing_of(data: Dataset, seen: Glance) -> Standing:
    """How the samples of a dataset stand, without those that are left out. Nothing is written, and no medium is read.

    Args:
        data: the dataset.
        seen: what its files were found to hold.

    Raises:
        DataError: a folder of encoded samples cannot be read.
    """
    root, names = seen.root, [sample.name for sample in data.samples]
    held = {folder: list_folder(root / folder, names, remember=False) for folder in sorted(data.folders)}
    planned = {each.sample.name: each for each in seen.planned if seen.has_sizes and seen.encoders.model is not None}
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


def _why_anew(sample: Sample, planned: Planned | None, held: Mapping[str, Listing], seen: Glance) -> str | None:
    """Why a sample is encoded anew; "": it is not there; None: it is not encoded anew."""
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
    if TEXT in entries and _is_of_another_caption(sample, entries[TEXT], seen.encoders.text):
        return CAPTION
    return MEDIA if planned is not None and _is_of_other_media(planned, entries, seen) else None


def _is_of_another_caption(sample: Sample, entry: Entry, encoder: TextEncoder | None) -> bool:
    return encoder is not None and entry.fingerprint != text_product(sample.caption, encoder.length, encoder.fingerprint).fingerprint


def _encoders(seen: Glance) -> Iterator[tuple[str, str]]:
    """The fingerprint of what encodes each folder now, where it is known."""
    if seen.encoders.model is None:
        return
    if seen.encoders.text is not None:
        yield TEXT, seen.encoders.text.fingerprint
    for codec, folders in ((seen.tools.video, VIDEO_FOLDERS - {"video_masks"}), (seen.tools.audio, SOUND_FOLDERS - {"audio_masks"})):
        if codec is not None:
            yield from ((folder, codec.fingerprint) for folder in folders)


def _is_of_other_media(planned: Planned, entries: Mapping[str, Entry], seen: Glance) -> bool:
    """Whether other latents or masks would be made now; not where it would take reading a file to know."""
    raw, sample = seen.tools.raw, planned.sample
    if planned.without:  # it stays as it is
        return False
    if not all(raw.knows_content(path) for path in sample.media.values() if path.suffix.lower() not in STORED_MASKS):
        return False
    try:
        products = [RECIPES[folder](planned, seen.tools, entries) for folder in RECIPES if folder in entries and folder in planned.folders]
    except DataError:  # a file that cannot be read, which is told elsewhere
        return False
    return any(product.fingerprint != entries[product.folder].fingerprint for product in products)
