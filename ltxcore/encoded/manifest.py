"""Manifests, which hold facts about a run's samples, so that a run can be planned or refused before it starts, without opening samples.

Each folder has files `manifest*.jsonl`, one per preprocessing process, with one line per sample; they are merged when they are read (see
`listing`). A sample that no manifest records, such as a sample of ltx-trainer, a mask made by hand, or the last sample of a killed process,
is opened once. What was found is kept in an index beside the samples, or in the user's cache if the folder is read-only.

If there are several processes, one of them should call `read_manifest` first, so that the others find the index ready.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ltxcore.encoded import checks
from ltxcore.encoded.listing import Listing, Progress, list_folder
from ltxcore.encoded.manifest_lines import TICK, Line, append_lines
from ltxcore.encoded.sample_names import SUFFIX, sample_path, stored_name
from ltxcore.encoded.shards import place_in
from ltxcore.encoded.streams import may_lack
from ltxcore.errors import DataError, Problem
from ltxcore.protocols import Entry, Manifest, Source


def manifest_name(rank: int) -> str:
    """Return the name of the manifest of preprocessing process `rank`, in each folder."""
    return f"manifest-{rank}.jsonl"


def append_entry(root: Path, folder: str, name: str, entry: Entry, rank: int = 0, after: float = 0.0) -> None:
    """Record a written sample in the manifest of preprocessing process `rank`.

    Args:
        root: the data root.
        folder: the folder of the sample.
        name: the sample's name.
        entry: the entry that `write_sample` returned.
        rank: the number of this process.
        after: the latest time in the manifests, in seconds; the new line gets a later time, even if this process's clock is behind.

    Raises:
        DataError: the name leads out of the root, or the manifest cannot be written.
    """
    sample_path(root, folder, name)  # this refuses a name that leads out of the root
    _append(root, folder, Line(name, entry, _later(after)), rank)


def _later(after: float) -> float:
    return max(time.time(), after + TICK)


def remove_sample(root: Path, folder: str, name: str, rank: int = 0, after: float = 0.0) -> None:
    """Remove a sample's file from a folder, then its entry. A missing sample is not an error. The arguments are as in `append_entry`.

    Raises:
        DataError: the name leads out of the root, or the folder cannot be written.
    """
    path = sample_path(root, folder, name)
    place = place_in(Path(root) / folder, f"{stored_name(name)}{SUFFIX}")
    if place is not None:
        raise DataError(
            f"cannot be removed, because it is in the shard {place.shard.name}",
            where=str(path),
            remedy=f"Run `ltx shard --unpack {root}`, and then the same command again.",
        )
    if not path.parent.is_dir():
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot be removed: {error.strerror}", where=str(path)) from error
    _append(root, folder, Line(name, Entry(()), _later(after), removed=True), rank)


def _append(root: Path, folder: str, line: Line, rank: int) -> None:
    path = Path(root) / folder / manifest_name(rank)
    try:
        append_lines(path, [line])
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another data root."
        ) from error


def read_source(root: Path, folder: str) -> dict[str, Entry]:
    """Return the samples of a folder that need not be made again, since they have a file as recorded. The result is empty if there is no
    folder.

    Preprocessing makes all other samples again. A run uses `read_manifest`, which refuses the samples that are left out here.

    Raises:
        DataError: the folder cannot be read.
    """
    return dict(source_listing(root, folder).entries)


def source_listing(root: Path, folder: str) -> Listing:
    """List everything that a folder of a data root holds, whether intact or faulty; the listing is empty if there is no folder.

    Raises:
        DataError: the folder cannot be read, or the folder's name leads out of the root.
    """
    sample_path(root, folder, "any")
    return list_folder(Path(root) / folder, every_file=True)


def read_manifest(
    root: Path,
    sources: Mapping[str, Source],
    *,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Read the manifest of a run's sources, and refuse sources that the run cannot use. Optional sources are checked in the same way.

    Args:
        root: the data root.
        sources: the strategy's sources, by role.
        only: the names of the samples to use, such as the rows of this run's dataset; None for all samples.
        progress: a function that is called while unrecorded files are read.

    Raises:
        DataError: the root or a folder is missing; samples are gone, changed, unreadable, not in every source, not finite, or not what the
            role needs; masks do not fit their targets; or different encoders made samples of one folder. All problems are named at once.
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
    every_file: bool = False,
) -> tuple[Manifest, tuple[Problem, ...]]:
    """Read the manifest as `read_manifest` does, but return the existing samples together with all problems instead of raising an error.

    Args:
        root: the data root.
        sources: the strategy's sources, by role.
        only: the names of the samples to look at; None for all.
        progress: a function that is called while unrecorded files are read.
        remember: whether what is found in unrecorded files is written to the index.
        every_file: whether every file is looked at, although a folder has an index (see `list_folder`).

    Raises:
        DataError: there is no such root.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError("there is no such folder", where=str(root), remedy="Name the folder that `ltx preprocess` wrote to.")
    problems: list[Problem] = []
    listings = checks.with_legacy_text_names(sources, _listings(root, sources, only, progress, problems, remember, every_file))
    problems += _sample_problems(root, sources, listings, only)
    held = {role: listings[source.folder].entries for role, source in sources.items() if source.folder in listings}
    return Manifest(held), tuple(problems)


def _listings(
    root: Path,
    sources: Mapping[str, Source],
    only: Collection[str] | None,
    progress: Progress | None,
    problems: list[Problem],
    remember: bool,
    every_file: bool,
) -> dict[str, Listing]:
    """List each folder once. The problems of folders that cannot be listed are added to `problems`."""
    listings: dict[str, Listing] = {}
    for folder, source in _first_readers(sources).items():
        problem = checks.folder_problem(root, source)
        if problem is not None:
            problems.append(problem)
            continue
        try:
            listings[folder] = list_folder(root / folder, only, progress, remember, every_file)
        except DataError as error:
            problems.extend(error.problems)
    return listings


def _first_readers(sources: Mapping[str, Source]) -> dict[str, Source]:
    """Return each folder once, with the first of the sources that read it."""
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
    pictures = [source.folder for source in sources.values() if source.kind == "pictures"]
    yield from checks.join_problems(places, listings, only, pictures, may_lack(sources))
    for source in (each for each in sources.values() if each.folder in listings):
        place, entries = source.where or places[source.folder], listings[source.folder].entries
        wrong = list(checks.kind_problems(place, source, entries))
        yield from wrong
        if wrong:  # further checks would only repeat this in other words
            continue
        if source is readers[source.folder]:
            yield from checks.value_problems(place, source, entries)
        target = sources.get(source.modality)
        if source.kind == "mask" and target is not None and target.folder in listings:
            yield from checks.mask_problems(place, source, entries, listings[target.folder].entries)
        if source.kind == "pictures" and target is not None and target.folder in listings:
            yield from checks.picture_problems(place, source, entries, listings[target.folder].entries)
        if source.kind == "values" and target is not None and target.folder in listings:
            yield from checks.shape_problems(place, source, entries, listings[target.folder].entries)
        if source.kind == "text":
            yield from checks.text_problems(place, sources, entries)
