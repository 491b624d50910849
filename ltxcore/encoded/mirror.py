"""Encoded sets at addresses. A folder in the user's cache, the mirror, stands for such a set, so that everything that reads sets of this
machine reads it too.

The mirror has the set's folders, with their manifests and with the headers of their shards, which are fetched again only if the store says
that they changed. The samples stay where they are: each is read from its place in one request when it is needed (`shards.lies_elsewhere`).
An index of the manifests lies in the mirror, as beside a set on this machine. Texts of prompts, which a run reads before it begins, are kept
in the mirror when they are first read; those that a run encodes itself lie only there.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

import attrs
from filelock import FileLock

from ltxcore.addresses import Address
from ltxcore.encoded.index import SUMMARY
from ltxcore.encoded.places import Places, PlacesMade, places_at
from ltxcore.encoded.remote import RemoteFile, Store
from ltxcore.encoded.sample_names import FOREIGN, INDEX_FOLDER, SUFFIX
from ltxcore.encoded.shards import LONGEST_HEADER, SHARD, Slots, lies_elsewhere, places_of, slots_in, stays_inside
from ltxcore.encoded.store import MANIFESTS
from ltxcore.encoded.user_cache import user_cache
from ltxcore.errors import DataError
from ltxcore.files import write_whole
from ltxcore.logs import inform
from ltxcore.redact import stands_for

LISTED = ".listed.json"
"""The file in a mirror that says which state of the set the mirror has."""

HEADERS = ".headers"
"""The folder in a mirror with the headers of the shards."""

FIRST = 2**20
"""The number of bytes of a shard that are fetched first. They hold the header of some 10,000 samples; the rest of a longer one is fetched
after them.
"""

FRESH = 60.0
"""The seconds for which a process assumes that a set has not changed since it was last listed."""

_opened: dict[Path, float] = {}
"""The mirrors that this process has opened, and when."""

_lock = threading.Lock()


def opened(address: Address) -> Path:
    """Return the mirror of an encoded set, after bringing it up to date. Of several processes, one does that, and the others wait for it.

    Raises:
        ConfigError: fsspec, or a package that it needs for this store, is not installed.
        DataError: the set cannot be listed or read, or there is none; or the cache cannot be written.
    """
    mirror = mirror_of(address)
    with _lock:
        if mirror not in _opened or time.monotonic() - _opened[mirror] > FRESH:
            _bring_up_to_date(address, mirror)
            _opened[mirror] = time.monotonic()
    return mirror


def mirror_of(address: Address) -> Path:
    """Return the folder in the user's cache that stands for a set, whether it exists or not."""
    return user_cache() / "sets" / sha256(address.encode()).hexdigest()[:16]


def _bring_up_to_date(address: Address, mirror: Path) -> None:
    store = Store.at(address)
    stands_for(str(mirror), address)
    try:
        mirror.mkdir(parents=True, exist_ok=True)
        with FileLock(mirror.with_suffix(".lock")):
            _Update(store, mirror).run()
    except OSError as error:
        remedy = "Free some space there, or name another folder in XDG_CACHE_HOME."
        raise DataError(f"its manifests cannot be kept: {error.strerror}", where=str(error.filename or mirror), remedy=remedy) from error


@attrs.frozen(eq=False)
class _Update:
    """The work of bringing a mirror up to date.

    Attributes:
        store: the set.
        mirror: the mirror.
        before: the marks of the files that the mirror has, and one of each folder, as they were when they were fetched.
        now: the present marks.
    """

    store: Store
    mirror: Path
    before: dict[str, str] = attrs.field(factory=dict)
    now: dict[str, str] = attrs.field(factory=dict)

    def run(self) -> None:
        with suppress(OSError, ValueError, AttributeError, TypeError):
            self.before.update(json.loads((self.mirror / LISTED).read_bytes()))
        folders: dict[str, dict[str, RemoteFile]] = {}
        for path, file in self.store.files().items():
            folder, _, relative = path.partition("/")
            if relative and stays_inside(path) and folder != HEADERS and not relative.startswith(f"{INDEX_FOLDER}/"):
                folders.setdefault(folder, {})[relative] = file
        if not folders:
            remedy = "Correct the address, or copy a set there: `ltx shard SET --to ADDRESS`."
            raise DataError("there is no encoded set", where=self.store.address, remedy=remedy)
        for folder, files in folders.items():
            (self.mirror / folder).mkdir(exist_ok=True)
            lies_elsewhere(self.mirror / folder, self._folder(folder, files))
        for path in self.before.keys() - self.now.keys():
            self._drop(path)
            if "/" not in path:  # a folder
                shutil.rmtree(self.mirror / path, ignore_errors=True)
                (self.mirror / HEADERS / f"{path}.places").unlink(missing_ok=True)
                lies_elsewhere(self.mirror / path, {})
        if self.now != self.before:
            write_whole(self.mirror / LISTED, json.dumps(self.now).encode())

    def _folder(self, folder: str, files: Mapping[str, RemoteFile]) -> Places:
        """Bring a folder up to date, and return the places of its samples' files."""
        mark = sha256(repr([(relative, file.bytes, file.mark) for relative, file in files.items()]).encode()).hexdigest()
        if self.before.get(folder) != mark:
            (self.mirror / folder / INDEX_FOLDER / SUMMARY).unlink(missing_ok=True)
        self.now[folder] = mark
        for relative, file in files.items():
            if fnmatch.fnmatch(relative, MANIFESTS):
                path = f"{folder}/{relative}"
                self._kept(path, self.mirror / path, file, partial(self.store.read, path, 0, file.bytes))
        fetch = _Fetch(self.store, self.mirror, folder, files if folder.startswith(".") else {})
        table = self.mirror / HEADERS / f"{folder}.places"
        known = places_at(table, mark, self.mirror / folder, fetch)
        if known is not None:
            unchanged = {path: file.mark for relative, file in files.items() if (path := f"{folder}/{relative}") in self.before}
            self.now.update(unchanged)
            return known
        made = self._places(folder, files).places(self.mirror / folder, fetch)
        made.save(table, mark)
        return made

    def _places(self, folder: str, files: Mapping[str, RemoteFile]) -> PlacesMade:
        made, alone = PlacesMade(), dict[str, RemoteFile]()
        for relative, file in files.items():
            path = f"{folder}/{relative}"
            if SHARD.fullmatch(relative) and (slots := self._slots(path, file)) is not None:
                made.add_shard(relative, file.changed, places_of(slots))
            elif relative.endswith((SUFFIX, FOREIGN)):
                alone[relative] = file
                if folder.startswith("."):
                    self.now[path] = file.mark
                    if self.before.get(path, file.mark) != file.mark:
                        self._drop(path)
        for relative, file in alone.items():  # which count before those in shards
            made.add_file(relative, file.bytes, file.changed)
        return made

    def _slots(self, path: str, file: RemoteFile) -> tuple[int, Slots] | None:
        """Return the slots of a shard; None if it is a sample that is named like one."""
        place = self.mirror / HEADERS / path
        self._kept(path, place, file, partial(self._header, path, file))
        try:
            return slots_in(place.read_bytes(), file.bytes, place)
        except OSError as error:
            remedy = "Copy the set there again."
            raise DataError(f"cannot be read: {error.strerror}", where=f"{self.store.address}/{path}", remedy=remedy) from error

    def _header(self, path: str, file: RemoteFile) -> memoryview:
        first = self.store.read(path, 0, min(FIRST, file.bytes))
        size = 8 + struct.unpack_from("<Q", first)[0] if len(first) >= 8 else 0
        if size <= len(first) or size > min(file.bytes, LONGEST_HEADER):
            return first[:size]
        return memoryview(bytearray().join([first, self.store.read(path, len(first), size - len(first))]))

    def _kept(self, path: str, place: Path, file: RemoteFile, fetched: Callable[[], memoryview]) -> None:
        """Fetch a file into the mirror, unless the mirror has its present version."""
        self.now[path] = file.mark
        if self.before.get(path) != file.mark or not place.is_file():
            if not self.before and file.bytes > FIRST:
                inform(f"fetching {self.store.address}/{path}, once")
            write_whole(place, bytes(fetched()))

    def _drop(self, path: str) -> None:
        for place in (self.mirror / path, self.mirror / HEADERS / path):
            with suppress(OSError):  # it is a folder, or was not there
                place.unlink(missing_ok=True)


@attrs.frozen(eq=False)
class _Fetch:
    """Fetches bytes of the files of a folder.

    Attributes:
        store: the set.
        mirror: its mirror.
        folder: the name of the folder.
        kept: the files that are kept in the mirror when they are first read.
    """

    store: Store
    mirror: Path
    folder: str
    kept: Mapping[str, RemoteFile]

    def __call__(self, relative: str, begin: int, size: int) -> memoryview:
        path = f"{self.folder}/{relative}"
        data = self.store.read(path, begin, size)
        if relative in self.kept and size == self.kept[relative].bytes:
            with suppress(OSError):  # it is fetched again the next time
                write_whole(self.mirror / path, bytes(data))
        return data
