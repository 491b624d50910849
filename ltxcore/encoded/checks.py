"""Checks of a run's data, as far as manifests tell. Each check yields one problem for all samples at fault."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from ltxcore.encoded.listing import Listing
from ltxcore.encoded.sample_names import legacy_text_name, sample_path
from ltxcore.encoded.store import MANIFESTS, spoken
from ltxcore.errors import DataError, Problem, listed, suggestion
from ltxcore.protocols import MODALITIES, Entry, Source

AGAIN = "Run `ltx preprocess` again"
SHOWN = 5
"""The number of samples that a message names; the others are counted."""


def folder_problem(root: Path, source: Source) -> Problem | None:
    """Find what is wrong with a source's folder itself; if it is missing, suggest the one that may have been meant."""
    folder = source.folder
    try:
        sample_path(root, folder, "any")
    except DataError as error:
        return error.at(source.where).problems[0]
    if (root / folder).is_dir():
        return None
    inner = root / ".precomputed"
    known = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    remedy = f'Did you mean the root "{inner}"?' if (inner / folder).is_dir() else suggestion(folder, known)
    return Problem(f'there is no folder "{folder}" in {root}', source.where, remedy)


def with_legacy_text_names(sources: Mapping[str, Source], listings: Mapping[str, Listing]) -> dict[str, Listing]:
    """Return the listings by folder, with the text `condition_X` of an early ltx-trainer under the name of its latents, `latent_X`."""
    texts = {source.folder for source in sources.values() if source.kind == "text"}
    others = {name for folder, listing in listings.items() if folder not in texts for name in listing.entries}
    renamed = {legacy_text_name(name): name for name in others if legacy_text_name(name)}

    def current(name: str, listing: Listing) -> str:
        latents = renamed.get(name)
        return name if latents is None or name in others or latents in listing.entries else latents

    return {
        folder: attrs.evolve(listing, entries={current(name, listing): entry for name, entry in listing.entries.items()})
        if folder in texts
        else listing
        for folder, listing in listings.items()
    }


def file_problems(place: str, folder: str, listing: Listing) -> Iterator[Problem]:
    """Find files that are not as recorded, or are not samples."""
    indexed = f'delete the {MANIFESTS} of "{folder}" too: it is then indexed again.'
    if listing.gone:
        yield Problem(
            f'{count(listing.gone)} of "{folder}" {are(listing.gone)} recorded, but the file is gone: {listed(listing.gone, SHOWN)}',
            place,
            f"{AGAIN}. If you removed them on purpose, {indexed}",
        )
    if listing.changed:
        yield Problem(
            f'{count(listing.changed)} of "{folder}" {have(listing.changed)} another size than recorded: {listed(listing.changed, SHOWN)}',
            place,
            f"{AGAIN}, which encodes them again. If they are your own, {indexed.replace(' too', '')}",
        )
    yield from list(listing.unreadable.values())[:SHOWN]
    rest = list(listing.unreadable)[SHOWN:]
    if rest:
        yield Problem(f'{len(rest)} more of "{folder}" cannot be read: {listed(rest, SHOWN)}', place)


def join_problems(places: Mapping[str, str], listings: Mapping[str, Listing], only: Collection[str] | None) -> Iterator[Problem]:
    """Find samples that one folder has and another lacks, and folders that have none. Samples that are there but faulty
    are reported elsewhere.
    """
    everything = {name for listing in listings.values() for name in [*listing.entries, *listing.at_fault]} | set(only or ())
    for folder, listing in listings.items():
        if not listing.entries and not listing.at_fault:
            yield Problem(f'there are no samples in "{folder}"', places[folder], f"{AGAIN}.")
            continue
        missing = sorted(everything - set(listing.entries) - listing.at_fault)
        if missing:
            having = sorted(other for other, held in listings.items() if not held.entries.keys().isdisjoint(missing))
            owners = ", ".join(f'"{other}"' for other in having) or "the dataset"
            yield Problem(
                f'"{folder}" lacks {count(missing)} of {owners}: {listed(missing, SHOWN)}',
                places[folder],
                "Make them with `ltx preprocess`, or take these samples out of the other folders.",
            )


def kind_problems(place: str, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find samples of a kind other than the one that the role reads."""
    wanted = spoken(source.kind, source.modality)
    by_kind: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if entry.kind and (entry.kind != source.kind or (source.modality and entry.modality != source.modality)):
            by_kind.setdefault(spoken(entry.kind, entry.modality), []).append(name)
    for held, names in sorted(by_kind.items()):
        yield Problem(
            f'"{source.folder}" is read as {wanted}, but {count(names)} {hold(names)} {held}: {listed(names, SHOWN)}',
            place,
            "Name another folder.",
        )


def value_problems(place: str, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find values that are not finite, and samples of one folder that disagree where they must agree."""
    names = [name for name, entry in entries.items() if not entry.finite]
    if names:
        yield Problem(
            f'{count(names)} of "{source.folder}" {hold(names)} NaN or infinite values: {listed(names, SHOWN)}',
            place,
            "Check the media that they come from, and run `ltx preprocess` again, which encodes them again."
            if any(entries[name].origin for name in names)
            else "Write them again, without such values.",
        )
    if source.kind == "text":
        yield from _disagreement(place, source, entries, "length", lambda entry: entry.shape[0])
        mixed = list(_mixed(place, source, entries))
        yield from mixed
        if mixed:  # their encoders differ in that alone, or would only repeat it
            return
    if source.kind == "latents":
        yield from _disagreement(place, source, entries, "number of channels", lambda entry: entry.shape[0])
    if source.kind == "latents" and source.modality == "audio":
        yield from _disagreement(place, source, entries, "number of frequency bins", lambda entry: entry.shape[2])
    yield from _disagreement(
        place, source, {name: entry for name, entry in entries.items() if entry.encoder}, "encoder", lambda entry: entry.encoder
    )


def _mixed(place: str, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find text that is partly text features from before the connectors and partly the output of connectors."""
    outputs = [name for name, entry in entries.items() if entry.connectors]
    features = [name for name, entry in entries.items() if not entry.connectors]
    if outputs and features:
        yield Problem(
            f'"{source.folder}" mixes the outputs of connectors, in {count(outputs)} ({listed(outputs, SHOWN)}), with text features, in '
            f"{count(features)} ({listed(features, SHOWN)})",
            place,
            "Run `ltx preprocess` again on the whole dataset, either with connector_outputs or without it.",
        )


def mask_problems(place: str, source: Source, masks: Mapping[str, Entry], targets: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find masks that do not have one value for each of their target's cells."""
    wrong = []
    for name, mask in masks.items():
        target = targets.get(name)
        if target is None or target.kind not in ("", "latents"):
            continue
        cells = target.shape[1:] if source.modality == "video" else target.shape[1:2]
        if mask.shape != cells:
            wrong.append(f"{name} ({_size(mask.shape)} for {_size(cells)})")
    if wrong:
        yield Problem(
            f'{count(wrong, "mask")} of "{source.folder}" {do(wrong)} not fit the {source.modality} latents: {listed(wrong, SHOWN)}',
            place,
            f"Make masks from the same media as the latents, with one value per latent {'cell' if source.modality == 'video' else 'step'}.",
        )


def text_problems(place: str, sources: Mapping[str, Source], entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find text that has no features for a modality of the run."""
    needed = {source.modality for source in sources.values() if source.modality}
    for modality in (each for each in MODALITIES if each in needed):
        names = [name for name, entry in entries.items() if entry.kind and modality not in entry.modality.split("+")]
        if names:
            yield Problem(
                f"the text of {count(names)} has no features for {modality}: {listed(names, SHOWN)}", place, f"{AGAIN} with this model."
            )


def _disagreement(
    place: str, source: Source, entries: Mapping[str, Entry], what: str, value: Callable[[Entry], object]
) -> Iterator[Problem]:
    by_value: dict[object, list[str]] = {}
    for name, entry in entries.items():
        by_value.setdefault(value(entry), []).append(name)
    if len(by_value) > 1:
        most, *others = sorted(by_value, key=lambda each: (-len(by_value[each]), str(each)))
        names = [name for each in others for name in by_value[each]]
        made = any(entries[name].encoder for name in names)
        yield Problem(
            f'the samples of "{source.folder}" do not all have the same {what}: {most} in {len(by_value[most])}, '
            f"{', '.join(map(str, others))} in {listed(names, SHOWN)}",
            place,
            "Encode the whole dataset with one model: run `ltx preprocess` with another --output-dir."
            if made
            else "Write the samples of one kind again.",
        )


def count(names: Collection[object], noun: str = "sample") -> str:
    """Say how many there are, in words."""
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def are(names: Collection[object]) -> str:
    return "is" if len(names) == 1 else "are"


def have(names: Collection[object]) -> str:
    return "has" if len(names) == 1 else "have"


def hold(names: Collection[object]) -> str:
    return "holds" if len(names) == 1 else "hold"


def do(names: Collection[object]) -> str:
    return "does" if len(names) == 1 else "do"


def _size(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
