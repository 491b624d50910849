"""The listing of a folder, which compares its manifests with its files. A file that no manifest records is opened once and indexed.

**Which line counts if a sample has several.** Within a manifest, the later line counts whatever its time, since the clock may have been set
back. Among several manifests, which several processes wrote, the newest line that fits the file's size counts, if the file was last changed
when that line was written. If this does not settle which of several fitting lines counts, the file itself is read, and the line that agrees
with it counts.

The user's cache is only for files that can be made again.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import operator
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import attrs
import numpy as np

from ltxcore.encoded.columns import Columns, together
from ltxcore.encoded.index import Indexing, open_index
from ltxcore.encoded.indexed_entries import IndexedEntries
from ltxcore.encoded.manifest_lines import Line, append_lines, read_lines
from ltxcore.encoded.sample_names import FITS, SUFFIX, File, files_in, looks_shortened, sizes_in, stored_name
from ltxcore.encoded.store import MANIFESTS, read_recorded, told_name
from ltxcore.encoded.streams import lacked
from ltxcore.encoded.user_cache import index_in_cache
from ltxcore.errors import DataError, Problem
from ltxcore.protocols import Entry
from ltxcore.workers import READERS, in_order

INDEX = ".index.jsonl"
"""The name of the file beside the samples that stores what was found in files that no manifest records."""

SOON = (-2.0, 60.0)
"""The minimum and maximum number of seconds between the last change of a file and the time of its line. File systems round times, and
writing may be delayed.
"""

CHUNK = 64
"""The number of files to index between two writes of the index, so that interrupted indexing can be resumed."""

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""A function that is called now and then while many files are read; it is given the folder, the number of files read, and the number of
files to read.
"""


@attrs.frozen
class Listing:
    """The samples of a folder.

    Attributes:
        entries: the entries of the samples that have a file as recorded.
        gone: the names of the recorded samples that have no file.
        changed: the names of the samples whose file does not have the recorded size.
        unreadable: the files that are not samples, each with the reason.
        latest: the latest time in the manifests, in seconds.
    """

    entries: Mapping[str, Entry]
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unreadable: Mapping[str, Problem] = attrs.field(factory=dict)
    latest: float = 0.0

    @property
    def at_fault(self) -> frozenset[str]:
        """The names of the samples that are recorded or have a file, but are faulty."""
        return frozenset([*self.gone, *self.changed, *self.unreadable])


def list_folder(
    folder: Path, only: Collection[str] | None = None, progress: Progress | None = None, remember: bool = True, every_file: bool = False
) -> Listing:
    """List the samples of a folder; the listing is empty if there is no folder.

    If the folder has an index that is up to date, its files are not looked at. A file that has been overwritten in place since then is
    noticed only when it is read.

    Args:
        folder: the folder of a source.
        only: the names of the samples to look at; None for all.
        progress: a function that is called while unrecorded files and large manifests are read.
        remember: whether what is found in unrecorded files and large manifests is written to an index.
        every_file: whether the size of every file is compared with the recorded one, although there is an index.

    Raises:
        DataError: the folder cannot be read.
    """
    if not folder.is_dir():
        return Listing({})
    try:
        found = None if every_file else open_index(folder)
        if found is not None:
            return Listing(found[0].among(only), latest=found[1])
        return _listed(folder, only, progress, remember)
    except FileNotFoundError as error:
        if _is_merged(error):
            return list_folder(folder, only, progress, remember, every_file)
        raise DataError(f"cannot be read: {error.strerror}", where=str(error.filename or folder)) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(error.filename or folder)) from error


def _is_merged(error: FileNotFoundError) -> bool:
    """Return whether a file is missing because it was a manifest, and the last of several processes has merged their manifests meanwhile."""
    path = Path(os.fsdecode(error.filename or ""))
    return path.match(MANIFESTS) and not path.is_symlink()


def _listed(folder: Path, only: Collection[str] | None, progress: Progress | None, remember: bool) -> Listing:
    """Compare the manifests of a folder with its files, and index the folder if it is large and has no faults."""
    indexing = Indexing.of(folder, remember)
    times: dict[str, int] = {}
    told = None if progress is None else lambda done, of: progress(folder.name, done, of)
    sizes = sizes_in(folder, times) if indexing.marks.is_large else None
    parts = list(indexing.parts(told))
    latest = max((float(part.arrays["time"].max()) for part in parts if len(part)), default=0.0)
    if sizes is not None and len(parts) == 1 and _are_as_recorded(*sizes, parts[0]):
        return Listing(IndexedEntries(indexing.finish(parts[0], times, latest)).among(only), latest=latest)
    del sizes
    times.clear()
    files = files_in(folder, times)
    files = _by_sample(files, {name for part in parts for name in part.names if len(name) > FITS})
    known, claims = _claims(parts, files)
    unclear = {name: file for name, file in files.items() if name not in known and (name not in claims or claims[name].is_open)}
    if indexing.marks.is_large and not claims and not unclear:
        columns = indexing.finish(together(parts, [*known.values()]), times, latest)
        return Listing(IndexedEntries(columns).among(only), latest=latest)
    if only is not None:
        wanted = set(only)
        unclear = {name: file for name, file in unclear.items() if name in wanted}
        known = {name: row for name, row in known.items() if name in wanted}
        claims = {name: claim for name, claim in claims.items() if name in wanted}
    entries = {name: parts[part].entry(row) for name, (part, row) in known.items()}
    read, unreadable = _indexed(folder, unclear, {name for name in unclear if name in claims}, progress, remember)
    read = {name: claims[name].settled(entry) if name in claims else entry for name, entry in read.items()}
    return Listing(
        entries=dict(sorted({**entries, **read}.items())),
        gone=tuple(sorted(name for name, claim in claims.items() if claim.says == "gone")),
        changed=tuple(sorted(name for name, claim in claims.items() if claim.says == "changed")),
        unreadable=unreadable,
        latest=latest,
    )


def _are_as_recorded(names: bytes | bytearray, ends: Sequence[int], sizes: Sequence[int], recorded: Columns) -> bool:
    """Return whether a folder's files, as `sizes_in` returns them, are exactly those of its only manifest, which most large sets have."""
    own = recorded.arrays
    return (
        np.array_equal(own["name.ends"], np.asarray(ends, np.int64))
        and np.array_equal(own["name"], np.frombuffer(names, np.uint8))
        and np.array_equal(own["bytes"], np.asarray(sizes, np.int64))
        and not own["removed"].any()
        and int(np.diff(own["name.ends"], prepend=0).max(initial=0)) <= FITS  # the names of files may be shorter than longer names
    )


def whole_samples(
    root: Path, folders: Collection[str], names: Collection[str] | None = None, absent: Collection[frozenset[str]] = ()
) -> tuple[str, ...]:
    """Return the names of the samples that every folder has, whether intact or faulty; with `names`, only samples among these count.
    Samples that lack only the folders of one modality count too, if `absent` names these folders.
    """
    listings = {folder: list_folder(root / folder, names, remember=False) for folder in folders}
    held = {folder: {*listing.entries, *listing.at_fault} for folder, listing in listings.items()}
    if not absent:
        return tuple(sorted(set.intersection(*held.values()))) if held else ()
    allowed = {frozenset[str](), *absent}
    return tuple(sorted(name for name in set[str]().union(*held.values()) if lacked(name, held) in allowed))


def index_paths(folder: Path) -> tuple[Path, Path]:
    """Return the two places where an index may be: beside the samples, or in the user's cache if the folder is read-only."""
    return folder / INDEX, index_in_cache(folder).with_suffix(".jsonl")


def _claims(parts: Sequence[Columns], files: Mapping[str, File]) -> tuple[dict[str, tuple[int, int]], dict[str, _Claim]]:
    """Return what the manifests claim about samples.

    Returns:
        the part and the row of each sample for which it is known which line counts; and the claims about the other samples, without those
        that were removed. Both are in the order of the names.
    """
    known: dict[str, tuple[int, int]] = {}
    claims: dict[str, _Claim] = {}
    sizes = [part.arrays["bytes"].tolist() for part in parts]
    removed = [part.arrays["removed"].tolist() for part in parts]
    lines = heapq.merge(*(zip(part.names, itertools.repeat(number), itertools.count()) for number, part in enumerate(parts)))
    for name, group in itertools.groupby(lines, key=operator.itemgetter(0)):
        (_, part, row), *others = group
        file = files.get(name)
        if not others and file is not None and file.bytes == sizes[part][row] and not removed[part][row]:
            known[name] = part, row
        else:
            rows = [(part, row), *((each[1], each[2]) for each in others)]
            found = [parts[part].line(row) for part, row in rows]
            claim = _claim(found, file)
            if claim.says == "known":
                known[name] = next(row for row, line in zip(rows, found, strict=True) if line.entry is claim.entry)
            elif file is not None or claim.says != "nothing":
                claims[name] = claim
    return known, claims


def _by_sample(files: Mapping[str, File], recorded: Collection[str]) -> dict[str, File]:
    """Return files by the names of their samples, which differ from file names that were shortened."""
    whole = {stored: name for name in recorded if (stored := stored_name(name)) != name}
    found: dict[str, File] = {}
    for stored, file in files.items():
        name = whole.get(stored, stored)
        if name == stored and looks_shortened(stored):  # the sample's line in a manifest was lost
            told = told_name(file.path)
            name = told if told and stored_name(told) == stored else stored
        if name not in found or file.path.suffix == SUFFIX:
            found[name] = file
    return dict(sorted(found.items()))


@attrs.frozen
class _Claim:
    """The claim that manifests make about a sample.

    Attributes:
        says: "known" if `entry` is right; "gone" or "changed" as in `Listing`; "nothing" if the sample was removed; "unclear" if several
            entries are possible and the file has to be read.
        entry: the newest entry that fits the file; None if none does.
        entries: all entries that fit the file.
    """

    says: Literal["known", "gone", "changed", "nothing", "unclear"]
    entry: Entry | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the sample's file has to be read."""
        return self.says in ("nothing", "unclear")

    def settled(self, found: Entry) -> Entry:
        """Settle an unclear claim: return the entry that matches what was found in the file. If none matches, the newest is returned, and
        the sample is refused when it is loaded.
        """
        same = [entry for entry in self.entries if entry in (found, attrs.evolve(found, checksum=""))]
        return found if same or self.entry is None else self.entry


def _claim(lines: list[Line], file: File | None) -> _Claim:
    """Find what manifests claim about a sample, from the last line about it in each manifest, and from its file if it has one."""
    newest = lines[0] if len(lines) == 1 else sorted(lines, key=lambda line: line.time)[-1]  # stable: the later manifest wins ties
    if file is None:
        return _Claim("nothing" if newest.removed else "gone")
    fitting = [line for line in lines if not line.removed and line.entry.bytes == file.bytes]
    if not fitting:
        return _Claim("nothing" if newest.removed else "changed")
    if len(lines) == 1:
        return _Claim("known", newest.entry)
    *_, last = sorted(fitting, key=lambda line: line.time)
    soon = [line for line in lines if SOON[0] <= line.time - file.changed / 1e9 <= SOON[1]]
    told_apart = [line.time for line in soon] == [last.time] and not newest.removed
    if told_apart or all(line.entry == last.entry for line in lines):
        return _Claim("known", last.entry)
    return _Claim("unclear", None if newest.removed else last.entry, tuple(line.entry for line in fitting))


def _indexed(
    folder: Path, files: Mapping[str, File], unclear: Collection[str], progress: Progress | None, remember: bool
) -> tuple[dict[str, Entry], dict[str, Problem]]:
    """Return the entries of files, and the problems of unreadable ones.

    Entries come from the index where it is up to date, and otherwise from the files themselves; these are then added to the index. The
    entries of `unclear` files have checksums.
    """
    if not files:
        return {}, {}
    entries: dict[str, Entry] = {}
    for path in index_paths(folder):
        with contextlib.suppress(OSError):
            for line in read_lines(path):
                file = files.get(line.name)
                fits = file is not None and (file.bytes, file.changed) == (line.entry.bytes, line.changed)
                if fits and (line.entry.checksum or line.name not in unclear):
                    entries[line.name] = line.entry
    unread = {name: file for name, file in files.items() if name not in entries}
    unreadable: dict[str, Problem] = {}
    done = 0
    for chunk in _chunks(_read_all(unread)):
        lines = [Line(name, found, changed=files[name].changed) for name, found in chunk if isinstance(found, Entry)]
        unreadable.update({name: found for name, found in chunk if isinstance(found, Problem)})
        entries.update({line.name: line.entry for line in lines})
        if remember:
            _remember(folder, lines)
        done += len(chunk)
        if progress is not None:
            progress(folder.name, done, len(unread))
    return entries, unreadable


def _read_all(files: Mapping[str, File]) -> Iterator[tuple[str, Entry | Problem]]:
    def read(item: tuple[str, File]) -> tuple[str, Entry | Problem]:
        name, file = item
        try:
            return name, read_recorded(file.path)[1]
        except DataError as error:
            return name, error.problems[0]

    return in_order(read, files.items(), READERS, ahead=CHUNK)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


def _remember(folder: Path, lines: list[Line]) -> None:
    """Add lines to the index beside the samples, or else to the index in the cache. If neither can be written, the files are read again
    next time.
    """
    if not lines:
        return
    for path in index_paths(folder):
        with contextlib.suppress(OSError):
            if path.parent != folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(path, lines)
            return
