"""Checks of a run's data that need only manifests. Each check yields a single problem for all samples at fault."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ltxcore.alike import alike, alike_in_all, all_names, have_same_names
from ltxcore.columns import fits, recorded_params, spelled, told
from ltxcore.drawn import spoken as spoken_params
from ltxcore.encoded.listing import Listing
from ltxcore.encoded.sample_names import legacy_text_name, sample_path
from ltxcore.encoded.store import MANIFESTS, spoken
from ltxcore.encoded.streams import lacked
from ltxcore.errors import DataError, Problem, listed, suggestion
from ltxcore.protocols import MODALITIES, Entry, Source

AGAIN = "Run `ltx preprocess` again"
CUT = (
    "Run `ltx preprocess` on its dataset with --keyframe-candidates 4, which adds the pictures and leaves the rest as it is; or name the "
    "dataset in data.dataset, and the run adds them."
)
"""What to do about a set that was encoded without pictures of its clips."""

LEGACY_TEXT = "condition_"
"""The part that identifies the name of a text of an early ltx-trainer (`sample_names.legacy_text_name`)."""

Group = tuple[Entry, Sequence[str]]
"""Samples that have the same facts (see `alike`)."""

SHOWN = 5
"""The maximum number of samples that a message names; the others are only counted."""


def folder_problem(root: Path, source: Source) -> Problem | None:
    """Return the problem with a source's folder itself, or None. If the folder is missing, the problem suggests a folder that may have been
    meant.
    """
    folder = source.folder
    try:
        sample_path(root, folder, "any")
    except DataError as error:
        return error.at(source.where).problems[0]
    if source.may_be_absent or (root / folder).is_dir():
        return None
    inner = root / ".precomputed"
    known = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    remedy = f'Did you mean the root "{inner}"?' if (inner / folder).is_dir() else suggestion(folder, known)
    if source.kind == "pictures" and not remedy.startswith("Did you mean"):
        remedy = CUT
    return Problem(f'there is no folder "{folder}" in {root}', source.where, remedy)


def with_legacy_text_names(sources: Mapping[str, Source], listings: Mapping[str, Listing]) -> dict[str, Listing]:
    """Return the listings by folder, with every text `condition_X` of an early ltx-trainer renamed like its latents, `latent_X`."""
    texts = {source.folder for source in sources.values() if source.kind == "text"}
    if not any(LEGACY_TEXT in "\n".join(listings[folder].entries) for folder in texts & listings.keys()):
        return dict(listings)
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
    """Yield problems for files that differ from their records or are not samples."""
    indexed = f'delete the {MANIFESTS} of "{folder}" too: the folder is then indexed again.'
    if listing.gone:
        gone = f"{count(listing.gone)} whose {'file is' if len(listing.gone) == 1 else 'files are'}"
        yield Problem(
            f'the manifest of "{folder}" records {gone} missing: {listed(listing.gone, SHOWN)}',
            place,
            f"{AGAIN}. If you removed the files on purpose, {indexed}",
        )
    if listing.changed:
        yield Problem(
            f'{count(listing.changed)} of "{folder}" {have(listing.changed)} a size that differs from the recorded one: {listed(listing.changed, SHOWN)}',
            place,
            f"{AGAIN}, which encodes them again. If the files are your own, {indexed.replace(' too', '')}",
        )
    yield from list(listing.unreadable.values())[:SHOWN]
    rest = list(listing.unreadable)[SHOWN:]
    if rest:
        yield Problem(f'{len(rest)} more of "{folder}" cannot be read: {listed(rest, SHOWN)}', place)


def join_problems(
    places: Mapping[str, str],
    listings: Mapping[str, Listing],
    only: Collection[str] | None,
    pictures: Collection[str] = (),
    absent: Collection[frozenset[str]] = (),
) -> Iterator[Problem]:
    """Yield problems for samples that are in one folder but not in another, and for folders without samples. Samples at fault are reported
    elsewhere.

    Args:
        places: the place of each folder, for messages.
        listings: the content of each folder.
        only: the names of the samples to use; None for all samples.
        pictures: the folders of pictures, which a set may have been encoded without.
        absent: the folders of each modality that samples may lack (`streams.may_lack`).
    """
    first = next(iter(listings.values()), Listing({}))
    all_there = only is None or len(only) == len(first.entries)  # samples that are not in `only` were not looked at
    if (
        first.entries
        and all_there
        and all(not each.at_fault and have_same_names(each.entries, first.entries) for each in listings.values())
    ):
        return
    held = {folder: {*listing.entries, *listing.at_fault} for folder, listing in listings.items()}
    everything = set(only or ()).union(*held.values())
    excused = {name: lacks for name in everything if (lacks := lacked(name, held)) in absent} if absent else {}
    for folder, listing in listings.items():
        if not held[folder] and any(folder in each for each in absent):
            continue
        if not listing.entries and not listing.at_fault:
            yield Problem(f'there are no samples in "{folder}"', places[folder], CUT if folder in pictures else f"{AGAIN}.")
            continue
        missing = sorted(name for name in everything - held[folder] if folder not in excused.get(name, ()))
        if missing:
            having = sorted(other for other, held in listings.items() if not held.entries.keys().isdisjoint(missing))
            owners = ", ".join(f'"{other}"' for other in having) or "the dataset"
            yield Problem(
                f'"{folder}" lacks {count(missing)} of {owners}: {listed(missing, SHOWN)}',
                places[folder],
                CUT
                if folder in pictures
                else "Make the missing samples with `ltx preprocess`, or remove these samples from the other folders.",
            )


def kind_problems(place: str, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield problems for samples of a kind that the role does not read."""
    wanted = spoken(source.kind, source.modality)
    by_kind: dict[str, list[str]] = {}
    for entry, own in alike(entries):
        other = source.modality and source.kind != "values" and entry.modality != source.modality
        if entry.kind and (entry.kind != source.kind or other):
            by_kind.setdefault(spoken(entry.kind, entry.modality), []).extend(own)
    for held, names in sorted((held, sorted(names)) for held, names in by_kind.items()):
        yield Problem(
            f'"{source.folder}" is read as {wanted}, but {count(names)} {hold(names)} {held}: {listed(names, SHOWN)}',
            place,
            "Name another folder.",
        )


def value_problems(place: str, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield problems for values that are not finite, and for samples of one folder that disagree where they must agree."""
    groups = alike(entries)
    names = sorted(name for entry, own in groups if not entry.finite for name in own)
    if names:
        yield Problem(
            f'{count(names)} of "{source.folder}" {hold(names)} NaN or infinite values: {listed(names, SHOWN)}',
            place,
            "Check the media of these samples, and run `ltx preprocess` again, which encodes the samples again."
            if any(entries[name].origin for name in names)
            else "Write these samples again without NaN or infinite values.",
        )
    if source.kind == "text":
        yield from _disagreement(place, source, entries, groups, "length", lambda entry: entry.shape[0])
        mixed = list(_mixed(place, source, groups))
        yield from mixed
        if mixed:  # other encoders would be reported only for the same reason
            return
    if source.kind == "latents":
        yield from _disagreement(place, source, entries, groups, "number of channels", lambda entry: entry.shape[0])
    if source.kind == "latents" and source.modality == "audio":
        yield from _disagreement(place, source, entries, groups, "number of frequency bins", lambda entry: entry.shape[2])
    made = [group for group in groups if group[0].encoder]
    yield from _disagreement(place, source, entries, made, "encoder", lambda entry: entry.encoder)
    made = [group for group in groups if group[0].column]
    yield from _disagreement(place, source, entries, made, "parameters of a column", lambda entry: _spoken(entry.column))


def _spoken(column: str) -> str:
    """Spell an `Entry.column`, as in `unit = 2.5`."""
    return "; ".join(spoken_params(params) for _, params in recorded_params([column])) or column


def _mixed(place: str, source: Source, groups: Iterable[Group]) -> Iterator[Problem]:
    """Yield a problem if a folder's text is partly text features from before the connectors and partly the output of connectors."""
    outputs = sorted(name for entry, names in groups if entry.connectors for name in names)
    features = sorted(name for entry, names in groups if not entry.connectors for name in names)
    if outputs and features:
        yield Problem(
            f'"{source.folder}" mixes the outputs of connectors, in {count(outputs)} ({listed(outputs, SHOWN)}), with text features, in '
            f"{count(features)} ({listed(features, SHOWN)})",
            place,
            "Run `ltx preprocess` again on the whole dataset, either with connector_outputs or without it.",
        )


def mask_problems(place: str, source: Source, masks: Mapping[str, Entry], targets: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield a problem for masks that do not have one value for each cell of their target."""
    wrong: dict[str, str] = {}
    for mask, target, names in _pairs(masks, targets):
        cells = target.shape[1:] if source.modality == "video" else target.shape[1:2]
        if mask.shape != cells:
            wrong |= {name: f"{name} ({_size(mask.shape)} for {_size(cells)})" for name in names}
    if wrong:
        yield Problem(
            f'{count(wrong, "mask")} of "{source.folder}" {do(wrong)} not fit the {source.modality} latents: {_first(wrong)}',
            place,
            f"Make masks from the same media as the latents, with one value per latent {'cell' if source.modality == 'video' else 'step'}.",
        )


def shape_problems(place: str, source: Source, values: Mapping[str, Entry], targets: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find values that do not have the shape that the role declares."""
    wrong: dict[str, str] = {}
    for entry, target, names in _pairs(values, targets) if source.shape is not None else ():
        cells = target.shape[1:] if source.modality == "video" else target.shape[1:2]
        if source.shape is not None and not fits(entry.shape, source.shape, cells):
            wrong |= {name: f"{name} ({spelled(entry.shape)} for {spelled(told(source.shape, cells))})" for name in names}
    if wrong:
        yield Problem(
            f'the values of {count(wrong)} of "{source.folder}" do not have the shape {spelled(source.shape or ())}: {_first(wrong)}',
            place,
            "Name another folder, or encode the samples again with the column for this role.",
        )


def picture_problems(place: str, source: Source, pictures: Mapping[str, Entry], targets: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find pictures that are not as large as a latent frame of their target."""
    wrong: dict[str, str] = {}
    for entry, target, names in _pairs(pictures, targets):
        if (entry.shape[1], *entry.shape[3:]) != (target.shape[0], *target.shape[2:]):
            wrong |= {name: f"{name} ({_size(entry.shape[3:])} cells for {_size(target.shape[2:])})" for name in names}
    if wrong:
        yield Problem(
            f'the pictures of {count(wrong)} of "{source.folder}" do not fit the latents: {_first(wrong)}',
            place,
            f"{AGAIN}, with the options of the latents.",
        )


def text_problems(place: str, sources: Mapping[str, Source], entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield problems for text that lacks features for a modality of the run."""
    needed = {source.modality for source in sources.values() if source.modality}
    for modality in (each for each in MODALITIES if each in needed):
        names = sorted(name for entry, own in alike(entries) if entry.kind and modality not in entry.modality.split("+") for name in own)
        if names:
            yield Problem(
                f"the text of {count(names)} has no features for {modality}: {listed(names, SHOWN)}", place, f"{AGAIN} with this model."
            )


def _pairs(entries: Mapping[str, Entry], targets: Mapping[str, Entry]) -> Iterator[tuple[Entry, Entry, Sequence[str]]]:
    """Yield the entries of samples and of their targets, for each group of samples that have the same facts in both."""
    both = {"own": entries, "target": targets}
    for group, names in alike_in_all(both, all_names(both.values())):
        if group.keys() == both.keys() and group["target"].kind in ("", "latents"):
            yield group["own"], group["target"], names


def _first(wrong: Mapping[str, str]) -> str:
    """Name the first of the wrong samples, given a description of each."""
    return listed([wrong[name] for name in sorted(wrong)], SHOWN)


def _disagreement(
    place: str, source: Source, entries: Mapping[str, Entry], groups: Iterable[Group], what: str, value: Callable[[Entry], object]
) -> Iterator[Problem]:
    by_value: dict[object, list[str]] = {}
    for entry, own in groups:
        by_value.setdefault(value(entry), []).extend(own)
    if len(by_value) > 1:
        most, *others = sorted(by_value, key=lambda each: (-len(by_value[each]), str(each)))
        names = [name for each in others for name in sorted(by_value[each])]
        if any(entries[name].column for name in names):
            remedy = (
                "Encode them again with the same parameters, which `[preprocessing.columns.NAME]` sets, or --columns of `ltx preprocess`."
            )
        elif any(entries[name].encoder for name in names):
            remedy = "Encode the whole dataset with one model: run `ltx preprocess` with another --output-dir."
        else:
            remedy = f"Write these samples again, all with the same {what}."
        yield Problem(
            f'the samples of "{source.folder}" do not all have the same {what}: {most} in {len(by_value[most])}, '
            f"{', '.join(map(str, others))} in {listed(names, SHOWN)}",
            place,
            remedy,
        )


def count(names: Collection[object], noun: str = "sample") -> str:
    """Return the number of names and the noun in its right form, such as "2 samples"."""
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def have(names: Collection[object]) -> str:
    return "has" if len(names) == 1 else "have"


def hold(names: Collection[object]) -> str:
    return "holds" if len(names) == 1 else "hold"


def do(names: Collection[object]) -> str:
    return "does" if len(names) == 1 else "do"


def _size(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
