"""The index of a large encoded folder: its manifests as columns that are mapped into memory, so that a million samples are available at
once.

An index lies in the folder `.index` beside the manifests, or in the user's cache if the folder is read-only. It has the columns (see
`columns`) of each manifest, so that only manifests that changed are read again, and the columns of the samples, which are the manifest's
own if there is a single manifest. A last file, `index.json`, says what they were made from: sizes and times of the manifests, and times of
all folders of samples. A folder's time changes when a file in it is added, removed or replaced. So as long as no time has changed, the
folder has the files that it had when each of them was compared with its manifest, and no file needs to be looked at. A file that was
overwritten in place is found when it is read, and by `ltx doctor`, which looks at every file.

There is an index only of folders in which every file is as a manifest records it, and only if the manifests are large: in other folders, all
files are looked at every time.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import attrs

from ltxcore.encoded.columns import Building, Columns, columns_in
from ltxcore.encoded.indexed_entries import IndexedEntries
from ltxcore.encoded.manifest_lines import read_lines
from ltxcore.encoded.sample_names import INDEX_FOLDER
from ltxcore.encoded.store import MANIFESTS
from ltxcore.encoded.user_cache import index_in_cache
from ltxcore.files import matching, write_whole
from ltxcore.logs import inform

LARGE = 4 * 2**20
"""The size in bytes of the manifests from which on a folder is indexed; this is about 10,000 samples, which take half a second to read."""

SETTLED = 2.0
"""The number of seconds after which a file or folder that changes again certainly has another time: the coarsest clock of a file system."""

STEP = 20_000
"""The number of lines to read between two calls of the progress."""

SAID = 10 * STEP
"""The number of lines to read between two messages, where no other progress is shown."""

SUMMARY = "index.json"
VERSION = 1

_open: WeakValueDictionary[tuple[Path, str], Columns] = WeakValueDictionary()
"""The columns that this process has opened, so that the names of their samples are in memory once."""

Told = Callable[[int, int], None]
"""A function that is called now and then while lines are read, with the number of lines read and that of all lines."""


@attrs.frozen
class Marks:
    """The marks by which a change of a folder is noticed: sizes and times of its manifests, and times of the folders of its samples.

    Attributes:
        manifests: the size, and the time of the last change in nanoseconds, of each manifest by name.
        folders: the time of the last change of each folder by its path relative to the folder of the samples, "" for itself.
    """

    manifests: Mapping[str, tuple[int, int]]
    folders: Mapping[str, int]

    @property
    def is_large(self) -> bool:
        """Whether an index pays."""
        return sum(size for size, _ in self.manifests.values()) >= LARGE

    @property
    def newest(self) -> int:
        """The latest time, in nanoseconds."""
        return max([*self.folders.values(), *(changed for _, changed in self.manifests.values())], default=0)

    def still(self, folder: Path) -> bool:
        """Return whether nothing has changed since then."""
        try:
            return all(
                (status := (folder / name).stat()).st_size == size and status.st_mtime_ns == changed
                for name, (size, changed) in self.manifests.items()
            ) and all((folder / name).stat().st_mtime_ns == changed for name, changed in self.folders.items())
        except OSError:
            return False


def places(folder: Path) -> tuple[Path, Path]:
    """Return the two places where a folder's index may be."""
    return folder / INDEX_FOLDER, index_in_cache(folder)


def open_index(folder: Path) -> tuple[IndexedEntries, float] | None:
    """Return the samples of a folder, and the latest time in its manifests, in seconds; None if it has no index that is up to date."""
    for place in places(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = json.loads((place / SUMMARY).read_bytes())
            marks = Marks({name: (size, changed) for name, (size, changed) in told["manifests"].items()}, told["folders"])
            if told["version"] == VERSION and marks.still(folder):
                columns = _opened(place / told["columns"], told["id"])
                if columns is not None:
                    return IndexedEntries(columns), float(told["latest"])
    return None


def manifest_marks(folder: Path) -> Marks:
    """Return the marks of a folder's manifests, without those of the folders.

    Raises:
        OSError: the folder cannot be read.
    """
    found = {path.name: path.stat() for path in matching(folder, MANIFESTS)}
    return Marks({name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}, {})


@attrs.define
class Indexing:
    """Reads the manifests of a folder into columns, and writes its index.

    Attributes:
        folder: the folder of the samples.
        place: the folder to write the index to; None if nothing is to be written.
        marks: the marks of the manifests.
        began: the time before anything was read, in nanoseconds.
    """

    folder: Path
    place: Path | None
    marks: Marks
    began: int

    @classmethod
    def of(cls, folder: Path, write: bool) -> Indexing:
        """Begin to read a folder. If it is large and its index is to be written, this waits until a further change would show.

        Raises:
            OSError: the folder cannot be read.
        """
        marks = manifest_marks(folder)
        place = _writable(folder) if write and marks.is_large else None
        if place is not None and time.time_ns() - max(marks.newest, folder.stat().st_mtime_ns) < SETTLED * 1e9:
            time.sleep(SETTLED)
            marks = manifest_marks(folder)
        return cls(folder, place, marks, time.time_ns())

    def parts(self, told: Told | None) -> Iterator[Columns]:
        """Yield the columns of each manifest, in the order of their names, read anew where it changed.

        Raises:
            OSError: a manifest cannot be read.
        """
        for name, (size, changed) in self.marks.manifests.items():
            mark = f"{size} {changed}"
            kept = [] if not self.marks.is_large else [columns_in(place / _file(name)) for place in places(self.folder)]
            columns = next((each for each in kept if each is not None and each.about.get("of") == mark), None)
            if columns is None:
                columns = _read(self.folder / name, told or self._inform if self.place is not None else told)
                if self.place is not None:
                    columns = _saved(columns, self.place / _file(name), {"of": mark})
            yield columns

    def _inform(self, done: int, lines: int) -> None:
        if done % SAID == 0:
            inform(f"indexing {self.folder}, once: {done:,} of {lines:,} samples")

    def finish(self, columns: Columns, folders: Mapping[str, int], latest: float) -> Columns:
        """Write the index of a folder in which every file is as recorded, and return its columns, mapped into memory if they were written.

        Args:
            columns: the columns of the samples.
            folders: the times of the folders of samples before their files were looked at, as in `Marks`.
            latest: the latest time in the manifests.
        """
        marks = attrs.evolve(self.marks, folders=folders)
        if self.place is None or self.began - marks.newest < SETTLED * 1e9 or not marks.still(self.folder):
            return columns
        name = next((_file(each) for each in marks.manifests if columns.about.get("file") == _file(each)), "samples.columns")
        identity = columns.about.get("id", "") if name != "samples.columns" else secrets.token_hex(8)
        if name == "samples.columns":
            columns = _saved(columns, self.place / name, {"id": identity})
        told: dict[str, Any] = {"version": VERSION, "manifests": marks.manifests, "folders": marks.folders, "latest": latest}
        with contextlib.suppress(OSError):  # the folder is then read again next time
            write_whole(self.place / SUMMARY, json.dumps({**told, "columns": name, "id": identity}).encode())
        return columns


def _file(manifest: str) -> str:
    return f"{manifest}.columns"


def _writable(folder: Path) -> Path | None:
    for place in places(folder):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return place
    return None


def _read(path: Path, told: Told | None) -> Columns:
    found, lines = Building(), _count(path) if told is not None else 0
    for number, line in enumerate(read_lines(path), 1):
        found.add(line)
        if told is not None and number % STEP == 0:
            told(number, lines)
    return found.columns()


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))


def _saved(columns: Columns, path: Path, about: Mapping[str, str]) -> Columns:
    """Write columns, and return them mapped into memory; unchanged if they cannot be written."""
    identity = about.get("id") or secrets.token_hex(8)
    with contextlib.suppress(OSError):
        columns.save(path, {**about, "id": identity, "file": path.name})
        return _opened(path, identity) or columns
    return columns


def _opened(path: Path, identity: str) -> Columns | None:
    found = _open.get((path, identity))
    if found is None:
        found = columns_in(path)
        if found is None or found.about.get("id") != identity:
            return None
        _open[path, identity] = found
    return found
