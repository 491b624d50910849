"""The places of files in shards, in a table: sorted by name, in arrays that can be mapped from a file.

A million places as objects take a quarter of a gigabyte in each process, and seconds to make. A mapped table takes no memory of the
process, and is available at once.
"""

from __future__ import annotations

import itertools
import json
import mmap
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs

from ltxcore.files import write_whole

NUMBERS = ("ends", "shard", "begin", "bytes", "changed")
"""The arrays of numbers of a table, each of 8 bytes a row."""

VERSION = f"1 {sys.byteorder}"

Fetch = Callable[[str, int, int], memoryview]
"""A function that returns bytes of a file on another machine, given the file's path relative to the folder, the number of bytes before
them, and their number.
"""


@attrs.frozen
class Place:
    """The place of a file in a shard.

    Attributes:
        shard: the path of the shard; that of the file itself if it is on another machine and in no shard.
        begin: the number of bytes of the shard that come before the file.
        bytes: the size of the file in bytes.
        changed: the time of the shard's last change in nanoseconds.
        fetch: for a shard on another machine, a function that returns bytes of it, given the number of bytes before them and their number.
    """

    shard: Path
    begin: int
    bytes: int
    changed: int
    fetch: Callable[[int, int], memoryview] | None = attrs.field(default=None, eq=False)


@attrs.frozen(eq=False)
class Places(Mapping[str, Place]):
    """The places of the files of a folder, by their paths relative to the folder, in the order of these paths in UTF-8.

    Attributes:
        folder: the folder.
        shards: the names of the shards.
        names: all paths in UTF-8, one after the other.
        numbers: for each file, where its path ends in `names`, the number of its shard (-1 for a file that is in none), the bytes of the
            shard before it, its size, and the time of its last change.
        fetch: for files on another machine, the function that fetches them.
    """

    folder: Path
    shards: Sequence[str]
    names: memoryview
    numbers: Mapping[str, memoryview]
    fetch: Fetch | None = None

    def __len__(self) -> int:
        return len(self.numbers["ends"])

    def __iter__(self) -> Iterator[str]:
        return (str(self.names[begin:end], "utf-8", "surrogatepass") for begin, end in itertools.pairwise((0, *self.numbers["ends"])))

    def __getitem__(self, relative: str) -> Place:
        names, ends = self.names, self.numbers["ends"]
        wanted, low, high = relative.encode("utf-8", "surrogatepass"), 0, len(ends)
        while low < high:
            row = (low + high) // 2
            own = bytes(names[ends[row - 1] if row else 0 : ends[row]])
            if own == wanted:
                return self._place(relative, row)
            low, high = (row + 1, high) if own < wanted else (low, row)
        raise KeyError(relative)

    def _place(self, relative: str, row: int) -> Place:
        shard, begin, size, changed = (self.numbers[each][row] for each in NUMBERS[1:])
        lies_in = relative if shard < 0 else self.shards[shard]
        return Place(self.folder / lies_in, begin, size, changed, None if self.fetch is None else partial(self.fetch, lies_in))

    def save(self, path: Path, mark: str) -> None:
        """Write the table to a file, with a text that tells what it was made from.

        Raises:
            OSError: the file cannot be written.
        """
        header = json.dumps({"version": VERSION, "mark": mark, "shards": list(self.shards), "rows": len(self)}).encode()
        header += b" " * (-len(header) % 8)
        write_whole(path, b"".join([struct.pack("<Q", len(header)), header, *(self.numbers[each] for each in NUMBERS), self.names]))


def places_at(path: Path, mark: str, folder: Path, fetch: Fetch | None = None) -> Places | None:
    """Return the table in a file, mapped into memory; None if there is no table that was made from the state that `mark` describes."""
    with suppress(OSError, ValueError, LookupError, TypeError, struct.error), path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        (size,) = struct.unpack_from("<Q", data)
        told = json.loads(bytes(data[8 : 8 + size]))
        if (told["version"], told["mark"]) != (VERSION, mark):
            return None
        begin, column = 8 + size, 8 * told["rows"]
        numbers = {each: data[begin + i * column : begin + (i + 1) * column].cast("q") for i, each in enumerate(NUMBERS)}
        names = data[begin + len(NUMBERS) * column :]
        is_whole = len(names) == (numbers["ends"][-1] if told["rows"] else 0)
        return Places(folder, told["shards"], names, numbers, fetch) if is_whole else None
    return None


class PlacesMade:
    """A table that is made file by file."""

    def __init__(self) -> None:
        self._shards: list[str] = []
        self._names, self._last, self._is_sorted = bytearray(), b"", True
        self._numbers = {each: array("q") for each in NUMBERS}

    def add_shard(self, name: str, changed: int, places: Mapping[str, tuple[int, int]]) -> None:
        """Add the files of a shard, given the bytes before each and its size."""
        for relative in sorted(places):
            self._add(relative, len(self._shards), *places[relative], changed)
        self._shards.append(name)

    def add_file(self, relative: str, size: int, changed: int) -> None:
        """Add a file that is in no shard."""
        self._add(relative, -1, 0, size, changed)

    def _add(self, relative: str, *numbers: int) -> None:
        name = relative.encode("utf-8", "surrogatepass")
        self._is_sorted &= name > self._last
        self._last = name
        self._names += name
        for each, number in zip(NUMBERS, (len(self._names), *numbers), strict=True):
            self._numbers[each].append(number)

    def places(self, folder: Path, fetch: Fetch | None = None) -> Places:
        """Return the table. Of several places of a file, the last counts."""
        names, numbers = self._names, self._numbers
        if not self._is_sorted:
            each = [bytes(names[begin:end]) for begin, end in itertools.pairwise((0, *numbers["ends"]))]
            rows = sorted(range(len(each)), key=each.__getitem__)
            rows = [row for row, after in itertools.zip_longest(rows, rows[1:]) if after is None or each[row] != each[after]]
            names = bytearray().join(each[row] for row in rows)
            numbers = {column: array("q", (own[row] for row in rows)) for column, own in numbers.items()}
            numbers["ends"] = array("q", itertools.accumulate(len(each[row]) for row in rows))
        return Places(folder, tuple(self._shards), memoryview(names), {column: memoryview(own) for column, own in numbers.items()}, fetch)
