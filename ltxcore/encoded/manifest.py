"""Manifests: the facts about a run's samples that are known without opening one, so that a run can be planned, or
refused, before it starts.

Each folder has `manifest*.jsonl`, with one line per sample and one file per preprocessing process; they are merged when
read (see `listing`). A sample that no manifest records (a set of ltx-trainer, a mask made by hand, the last sample of a
killed process) is opened once, and what was found is kept in an index beside the samples, or in the user's cache if
that folder is read-only.

With several processes, let one of them call `read_manifest` first: the others then find the index ready.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ltxcore.encoded import checks
from ltxcore.encoded.listing import Listing, Progress, list_folder
from ltxcore.encoded.manifest_lines import TICK, Line, append_lines
from ltxcore.encoded.sample_names import sample_path
from ltxcore.errors import DataError, Problem
from ltxcore.protocols import Entry, Manifest, Source


def append_entry(root: Path, folder: str, name: str, entry: Entry, rank: int = 0, after: float = 0.0) -> None:
    """Record a sample that has been written, in the manifest of preprocessing process `rank`.

    Args:
        root: the data root.
        folder: the folder of the sample.
        name: the sample's name.
        entry: the entry that `write_sample` returned.
        rank: the number of this process.
        after: the latest time in the manifests, in seconds; the line gets a later one, even if this process's clock
            says less.

    Raises:
        DataError: the name leads out of the root, or the manifest cannot be written.
    """
    sample_path(root, folder, name)  # refuses a name that leads out of the root
    _append(root, folder, Line(name, entry, _later(after)), rank)


def _later(after: float) -> float:
    return max(time.time(), after + TICK)


def remove_sample(root: Path, folder: str, name: str, rank: int = 0, after: float = 0.0) -> None:
    """Remove a sample from a folder: its file, then its entry. It is not an error if the sample is not there. The
    arguments are those of `append_entry`.

    Raises:
        DataError: the name leads out of the root, or the folder cannot be written.
    """
    path = sample_path(root, folder, name)
    if not path.parent.is_dir():
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot be removed: {error.strerror}", where=str(path)) from error
    _append(root, folder, Line(name, Entry(()), _later(after), removed=True), rank)


def _append(root: Path, folder: str, line: Line, rank: int) -> None:
    path = Path(root) / folder / f"manifest-{rank}.jsonl"
    try:
        append_lines(path, [line])
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another data root."
        ) from error


def read_source(root: Path, folder: str) -> dict[str, Entry]:
    """Return the samples of a folder that need not be made again: recorded, with a file that is as recorded. Empty if
    there is no folder.

    Preprocessing makes all others again. A run uses `read_manifest`, which refuses what is left out here.

    Raises:
        DataError: the folder cannot be read.
    """
    return dict(source_listing(root, folder).entries)


def source_listing(root: Path, folder: str) -> Listing:
    """List everything that a folder of a data root holds, in order or not; an empty listing if there is no folder.

    Raises:
        DataError: the folder cannot be read, or its name leads out of the root.
    """
    sample_path(root, folder, "any")
    return list_folder(Path(root) / folder)


def read_manifest(
    root: Path,
    sources: Mapping[str, Source],
    *,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Read the manifest of a run's sources, if a run can be made from them. Optional sources are checked in the same
    way.

    Args:
        root: the data root.
        sources: the strategy's sources, by role.
        only: the names of the samples to use, such as the rows of this run's dataset; None for all that are there.
        progress: a function that is called while unrecorded files are read.

    Raises:
        DataError: something is wrong, all of which is named at once: a missing root or folder; samples that are gone,
            changed, unreadable, not in every source, not finite, or not what the role needs; masks that do not fit their
            target; samples of one folder that different encoders made.
    """
    manifest, problems = survey_manifest(root, sources, only=only, progress=progress)
    if problems:
        raise DataError.of(problems)
    return manifest


def survey_manifest(
    root: Path,
    sources: Mapping[str, Source],
    *,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    remember: bool = True,
) -> tuple[Manifest, tuple[Problem, ...]]:
    """Read the manifest like `read_manifest`, but return the samples that there are together with all problems, instead
    of raising.

    Args:
        root: the data root.
        sources: the strategy's sources, by role.
        only: the names of the samples to look at; None for all.
        progress: a function that is called while unrecorded files are read.
        remember: whether what is found in unrecorded files is written to the index.

    Raises:
        DataError: there is no such root.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError("there is no such folder", where=str(root), remedy="Name the folder that `ltx preprocess` wrote to.")
    problems: list[Problem] = []
    listings = checks.with_legacy_text_names(sources, _listings(root, sources, only, progress, problems, remember))
    problems += _sample_problems(root, sources, listings, only)
    held = {role: listings[source.folder].entries for role, source in sources.items() if source.folder in listings}
    return Manifest({role: dict(entries) for role, entries in held.items()}), tuple(problems)


def _listings(
    root: Path,
    sources: Mapping[str, Source],
    only: Collection[str] | None,
    progress: Progress | None,
    problems: list[Problem],
    remember: bool,
) -> dict[str, Listing]:
    """List each folder once; the problems of those that cannot be listed are added to `problems`."""
    listings: dict[str, Listing] = {}
    for folder, source in _first_readers(sources).items():
        problem = checks.folder_problem(root, source)
        if problem is not None:
            problems.append(problem)
            continue
        try:
            listings[folder] = list_folder(root / folder, only, progress, remember)
        except DataError as error:
            problems.extend(error.problems)
    return listings


def _first_readers(sources: Mapping[str, Source]) -> dict[str, Source]:
    """Return each folder once, with the first source that reads it."""
    readers: dict[str, Source] = {}
    for source in sources.values():
        readers.setdefault(source.folder, source)
    return readers


def _sample_problems(
    root: Path, sources: Mapping[str, Source], listings: Mapping[str, Listing], only: Collection[str] | None
) -> Iterator[Problem]:
    readers = {folder: source for folder, source in _first_readers(sources).items() if folder in listings}
    places = {folder: source.where or str(root / folder) for folder, source in readers.items()}
    for folder, listing in listings.items():
        yield from checks.file_problems(places[folder], folder, listing)
    yield from checks.join_problems(places, listings, only)
    for source in (each for each in sources.values() if each.folder in listings):
        place, entries = source.where or places[source.folder], listings[source.folder].entries
        wrong = list(checks.kind_problems(place, source, entries))
        yield from wrong
        if wrong:  # further checks would only say the same in other words
            continue
        if source is readers[source.folder]:
            yield from checks.value_problems(place, source, entries)
        target = sources.get(source.modality)
        if source.kind == "mask" and target is not None and target.folder in listings:
            yield from checks.mask_problems(place, source, entries, listings[target.folder].entries)
        if source.kind == "text":
            yield from checks.text_problems(place, sources, entries)
