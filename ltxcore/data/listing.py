"""What one folder holds: its manifests beside its files; a file that no manifest records is opened once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs

from ltxcore.data.cache import user_cache
from ltxcore.data.lines import Line, append_lines, read_lines
from ltxcore.data.names import File, files_in
from ltxcore.data.store import read_stored
from ltxcore.errors import DataError, Problem
from ltxcore.protocols import Entry

INDEX = ".index.jsonl"
"""Beside the samples: what was found in files that no manifest records."""

CHUNK = 64
"""Files indexed between two writes of the index, so that an index that was interrupted goes on where it was."""

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Told about a long reading: the folder, files read, files to read."""


@attrs.frozen
class Listing:
    """The samples of a folder.

    Attributes:
        entries: of those whose file is there as recorded.
        gone: recorded, but without a file.
        changed: recorded with another size than their file has.
        unreadable: files that are no samples, each with the reason.
    """

    entries: Mapping[str, Entry]
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unreadable: Mapping[str, Problem] = attrs.field(factory=dict)

    @property
    def at_fault(self) -> frozenset[str]:
        """Names of the samples that are there in some way, but not as they should be."""
        return frozenset([*self.gone, *self.changed, *self.unreadable])


def list_folder(folder: Path, only: Collection[str] | None = None, progress: Progress | None = None, remember: bool = True) -> Listing:
    """What a folder holds; an empty listing where there is no folder.

    Args:
        folder: of one source.
        only: look at these samples alone, by name; none: at all.
        progress: told while unrecorded files are read.
        remember: whether what is found in them is written to the index.

    Raises:
        DataError: the folder cannot be read.
    """
    if not folder.is_dir():
        return Listing({})
    try:
        files, recorded = files_in(folder), _recorded(folder)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(error.filename or folder)) from error
    if only is not None:
        wanted = set(only)
        files = {name: file for name, file in files.items() if name in wanted}
        recorded = {name: entry for name, entry in recorded.items() if name in wanted}
    entries = {name: recorded[name] for name, file in files.items() if name in recorded and recorded[name].bytes == file.bytes}
    changed = tuple(name for name in files if name in recorded and name not in entries)
    unrecorded = {name: file for name, file in files.items() if name not in recorded}
    indexed, unreadable = _indexed(folder, unrecorded, progress, remember)
    return Listing(
        entries=dict(sorted({**entries, **indexed}.items())),
        gone=tuple(sorted(recorded.keys() - files.keys())),
        changed=changed,
        unreadable=unreadable,
    )


def whole_samples(root: Path, folders: Collection[str], names: Collection[str] | None = None) -> tuple[str, ...]:
    """Names of the samples, or of those of `names`, that are there in every folder in some way, as they should be or at fault."""
    held = [list_folder(root / folder, names, remember=False) for folder in folders]
    return tuple(sorted(set.intersection(*({*listing.entries, *listing.at_fault} for listing in held)))) if held else ()


def index_paths(folder: Path) -> tuple[Path, Path]:
    """Where an index may lie: beside the samples, or in the user's cache where that folder is read-only."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return folder / INDEX, user_cache() / "index" / f"{key}.jsonl"


def _recorded(folder: Path) -> dict[str, Entry]:
    """Entries of all manifests of a folder; the one written last wins, whichever process wrote it."""
    lines = [line for path in sorted(folder.glob("manifest*.jsonl")) for line in read_lines(path)]
    last = {line.name: line for line in sorted(lines, key=lambda line: line.time)}  # a stable sort: later lines win ties
    return {name: line.entry for name, line in last.items() if not line.removed}


def _indexed(
    folder: Path, files: Mapping[str, File], progress: Progress | None, remember: bool
) -> tuple[dict[str, Entry], dict[str, Problem]]:
    """Entries of unrecorded files, from the index where it is up to date, else from the files, which are then added to it."""
    if not files:
        return {}, {}
    entries: dict[str, Entry] = {}
    for path in index_paths(folder):
        with contextlib.suppress(OSError):
            for line in read_lines(path):
                file = files.get(line.name)
                if file is not None and (file.bytes, file.changed) == (line.entry.bytes, line.changed):
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
            sample, size = read_stored(file.path)
        except DataError as error:
            return name, error.problems[0]
        return name, sample.entry(size)

    # Chunk by chunk, so that results do not pile up ahead of whoever takes them.
    with ThreadPoolExecutor(max_workers=4) as pool:
        for chunk in _chunks(iter(files.items())):
            yield from pool.map(read, chunk)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


def _remember(folder: Path, lines: list[Line]) -> None:
    """Add lines to the index beside the samples, else to the one in the cache; where neither can be written, the files are read again next time."""
    if not lines:
        return
    for path in index_paths(folder):
        with contextlib.suppress(OSError):
            if path.parent != folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(path, lines)
            return
