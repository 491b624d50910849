"""What is encoded of a dataset already: whether it is made of what the dataset names now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs

from ltxcore.doctor.dataset import Examined
from ltxcore.doctor.findings import Checkup, Finding, warning
from ltxcore.encode.outdated import Maker, as_made
from ltxcore.encode.products import RECIPES, Product
from ltxcore.encode.sample_sizes import Planned
from ltxcore.encode.work import TEXT, text_product
from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.sample_names import find_sample
from ltxcore.errors import DataError
from ltxcore.media.corrections import told
from ltxcore.progress import Phase
from ltxcore.protocols import Entry


def examine_fresh(root: Path, found: Examined, folders: Collection[str], model_known: bool, checkup: Checkup, phase: Phase) -> None:
    """Compare each encoded file with what would be encoded now.

    Args:
        root: where the samples are.
        found: the dataset.
        folders: to look at.
        model_known: whether the encoders are those of the run; if not, whatever encoder made a file is taken as the right one.
        checkup: takes the findings.
        phase: shows progress.
    """
    order = [folder for folder in (TEXT, *RECIPES) if folder in folders]
    names = [planned.sample.name for planned in found.planned]
    listings = {folder: list_folder(root / folder, names, remember=False).entries for folder in order}
    step = phase("fresh", len(names))
    for planned in found.planned:
        checkup.add(_stale(root, planned, found, listings, model_known))
        step()


def _stale(
    root: Path, planned: Planned, found: Examined, listings: Mapping[str, Mapping[str, Entry]], model_known: bool
) -> Iterator[Finding]:
    name = planned.sample.name
    entries = {folder: held[name] for folder, held in listings.items() if name in held}
    before = as_made(planned.sample, entries, found.rules, found.tools, _maker(found, model_known))
    if before is not None and before.since:
        yield warning(
            "stale",
            planned.sample.where,
            f'"{name}" was encoded as an older version read its files: since then, {told(before.since)}',
            "`ltx preprocess`, or a new run that names the dataset, encodes it anew. A run under way keeps it.",
        )
    for folder, entry in entries.items():
        if before is not None and before.since and folder != TEXT:
            continue
        if not entry.fingerprint or not entry.finite or (folder == "audio_masks" and "audio_latents" not in entries):
            continue
        try:
            product = _product(folder, planned, found, entries, model_known)
        except DataError:  # its file cannot be read, which is told elsewhere
            continue
        if product.fingerprint != entry.fingerprint:
            made_by_another = bool(product.encoder) and product.encoder != entry.encoder
            other = "another encoder" if made_by_another else MADE_OF[folder]
            yield warning(
                "stale",
                planned.sample.where,
                f"{find_sample(root, folder, name)} was made of {other} than the dataset and its options name now",
                "`ltx preprocess`, or a run that names the dataset, makes it anew; a run that names the encoded set alone trains on the old one.",
            )


MADE_OF = {
    TEXT: "another caption",
    "latents": "another clip, or for another size,",
    "audio_latents": "another sound, or for another length,",
    "reference_latents": "another reference, or for another size,",
    "reference_audio_latents": "another reference, or for another length,",
    "video_masks": "another mask, or for another size,",
    "audio_masks": "another mask, or for another length,",
}


def _maker(found: Examined, model_known: bool) -> Maker:
    return lambda folder, planned, entries: _product(folder, planned, found, entries, model_known)


def _product(folder: str, planned: Planned, found: Examined, entries: Mapping[str, Entry], model_known: bool) -> Product:
    """What would be made now."""
    entry = entries[folder]
    if folder == TEXT:
        encoder = found.encoder
        if encoder is None:
            return text_product(planned.sample.caption, entry.shape[0], entry.encoder)
        return text_product(planned.sample.caption, encoder.length, encoder.fingerprint)
    product = RECIPES[folder](planned, found.tools, entries)
    return product if model_known else attrs.evolve(product, encoder=entry.encoder)
