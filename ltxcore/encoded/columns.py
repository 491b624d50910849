"""Columns of the facts about samples: one array for each fact, sorted by the names of the samples, in a file that is mapped into memory.

The file is a safetensors file. It has an array for each number, and two for each text: all texts one after the other, and where each ends.
Facts that many samples share (shape, rate, encoder and so on, see `alike`) are stored once, and each sample has the number of its facts. A
mapped file takes no memory of the process, and its pages are shared by all processes on a machine.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any
from weakref import WeakValueDictionary

import attrs
import numpy as np
from numpy.typing import NDArray

from ltxcore.alike import made_part, shared_facts
from ltxcore.encoded.manifest_lines import Line, entry_from
from ltxcore.files import replacing
from ltxcore.protocols import Entry

Array = NDArray[Any]

TEXTS = ("name", "fingerprint", "origin", "checksum")
NUMBERS = {"facts": np.int32, "bytes": np.int64, "time": np.float64, "changed": np.int64, "removed": np.uint8}
ORIGIN_HASH = "origin_hash"
"""The column of the first 16 bytes of the SHA-256 of each sample's origin, as two numbers, by which held-out samples are chosen."""

VERSION = "1"

SPILLED = 2**16
"""The number of lines after which new columns are moved from memory to temporary files."""

CHUNK = 50_000
"""The number of texts that are decoded at a time."""


_KINDS = {"U8": np.uint8, "I32": np.int32, "I64": np.int64, "U64": np.uint64, "F64": np.float64}
_DTYPES = {np.dtype(kind): name for name, kind in _KINDS.items()}

_named: WeakValueDictionary[str, Columns] = WeakValueDictionary()
"""The columns that have names in memory, by the hash of the names."""


@attrs.frozen(eq=False)
class Columns:
    """The facts about samples, sorted by name, with one row for each sample.

    Attributes:
        arrays: the columns by name: those of `NUMBERS`, `[N]`; `origin_hash`, `[N, 2]`; and for each of `TEXTS`, all texts in UTF-8, and
            `TEXT.ends`, `[N]`. There may be more, which are kept.
        facts: the different facts that samples share; the column "facts" has their numbers.
        about: further texts that are stored with the columns, by name.
    """

    arrays: Mapping[str, Array]
    facts: tuple[Entry, ...]
    about: Mapping[str, str] = MappingProxyType({})

    def __len__(self) -> int:
        return len(self.arrays["facts"])

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, sorted. Columns with the same names share them, since they take most of the memory."""
        if "names" not in self.about:
            return tuple(self.texts("name"))
        other = _named.setdefault(self.about["names"], self)
        return tuple(self.texts("name")) if other is self else other.names

    @functools.cached_property
    def names_digest(self) -> str:
        """A hash of all names."""
        return self.about.get("names") or self._digest("name").hex()

    @functools.cached_property
    def made_digest(self) -> str:
        """A hash of all names and fingerprints (`alike.made_digest`)."""
        return self.about.get("made") or hashlib.sha256(self._digest("name") + self._digest("fingerprint")).hexdigest()

    @functools.cached_property
    def _finding(self) -> tuple[memoryview, memoryview]:
        return self.arrays["name"].data, self.arrays["name.ends"].data

    def find(self, name: str) -> int:
        """Return the row of a sample; -1 if there is none."""
        text, ends = self._finding
        wanted, low, high = encoded(name), 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            own = bytes(text[ends[middle - 1] if middle else 0 : ends[middle]])
            if own == wanted:
                return middle
            low, high = (middle + 1, high) if own < wanted else (low, middle)
        return -1

    def texts(self, column: str, rows: Iterable[int] | None = None) -> Iterable[str]:
        """Yield the texts of a column, in the order of the rows; of all rows by default."""
        if rows is not None:
            yield from (self._text(column, row) for row in rows)
            return
        text, ends, begin = self.arrays[column], self.arrays[f"{column}.ends"], 0
        for start in range(0, len(ends), CHUNK):
            of_chunk = (ends[start : start + CHUNK] - begin).tolist()
            data = text[begin : begin + of_chunk[-1]].tobytes()
            whole, last = data.decode("ascii") if data.isascii() else None, 0
            for end in of_chunk:
                yield whole[last:end] if whole is not None else decoded(data[last:end])
                last = end
            begin += last

    def entry(self, row: int) -> Entry:
        """Return the entry of a row."""
        fingerprint, origin, checksum = (self._text(column, row) for column in TEXTS[1:])
        shared = self.facts[int(self.arrays["facts"][row])]
        return attrs.evolve(shared, bytes=int(self.arrays["bytes"][row]), fingerprint=fingerprint, origin=origin, checksum=checksum)

    def line(self, row: int) -> Line:
        """Return a row as the line of a manifest."""
        time, changed, removed = (self.arrays[each][row].item() for each in ("time", "changed", "removed"))
        return Line(self._text("name", row), self.entry(row), time, changed, bool(removed))

    def taken(self, rows: Sequence[int]) -> Columns:
        """Return some of the rows, which must be in the order of their names."""
        chosen, arrays = np.asarray(rows, np.int64), dict[str, Array]()
        for column in self.arrays:
            if column in TEXTS:
                arrays[column], arrays[f"{column}.ends"] = _taken(self.arrays[column], self.arrays[f"{column}.ends"], chosen)
            elif not column.endswith(".ends"):
                arrays[column] = self.arrays[column][chosen]
        return Columns(arrays, self.facts)

    def save(self, path: Path, about: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write the columns to a file, which is replaced as a whole.

        Raises:
            OSError: the file cannot be written.
        """
        told = {**about, "version": VERSION, "facts": json.dumps([attrs.asdict(each) for each in self.facts])}
        told |= {"names": self.names_digest, "made": self.made_digest}
        slots, end = dict[str, Any](), 0
        arrays = dict(sorted(self.arrays.items(), key=lambda each: -each[1].itemsize))  # so that each number is at a multiple of its size
        for name, each in arrays.items():
            slots[name] = {"dtype": _DTYPES[each.dtype], "shape": each.shape, "data_offsets": [end, end := end + each.nbytes]}
        header = json.dumps({"__metadata__": told, **slots}).encode()
        header += b" " * (-len(header) % 8)
        # The library would copy all arrays before it writes the first.
        with replacing(path) as beside, beside.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for each in arrays.values():
                np.ascontiguousarray(each).tofile(file)

    def _digest(self, column: str) -> bytes:
        text, ends = (np.ascontiguousarray(self.arrays[each]).view(np.uint8).data for each in (column, f"{column}.ends"))
        return made_part(text, ends)

    def _text(self, column: str, row: int) -> str:
        ends = self.arrays[f"{column}.ends"]
        return decoded(self.arrays[column][ends[row - 1] if row else 0 : ends[row]].tobytes())


def columns_in(path: Path) -> Columns | None:
    """Map the columns of a file into memory; None if there is no such file, or if it is incomplete or of another version."""
    try:
        mapped = np.memmap(path, np.uint8, "r")
        (size,) = struct.unpack("<Q", mapped[:8].tobytes())
        header = json.loads(mapped[8 : 8 + size].tobytes())
        about = header.pop("__metadata__")
        if about["version"] != VERSION:
            return None
        facts = tuple(entry_from(each) for each in json.loads(about["facts"]))
        arrays = {name: _mapped(mapped, 8 + size, **each) for name, each in header.items()}
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return Columns(arrays, facts, about)


def _mapped(mapped: Array, begin: int, dtype: str, shape: Sequence[int], data_offsets: Sequence[int]) -> Array:
    start, end = data_offsets
    kind = _KINDS[dtype]
    # A plain view: a subclass of numpy's arrays makes each access several times slower.
    return np.asarray(mapped)[begin + start : begin + end].view(kind).reshape(tuple(shape))


@attrs.define(eq=False)
class _Growing:
    """A column that grows at its end. What it has in memory goes to a temporary file now and then.

    Attributes:
        end: the last values, a `bytearray` or an `array`.
        file: the file with the rows before them; None if all rows are in memory.
    """

    end: Any
    file: IO[bytes] | None = None

    def spill(self) -> None:
        """Move the values in memory to the file, or leave them there if no file can be written."""
        with suppress(OSError):
            self.file = self.file or tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the column is mapped
            place = self.file.seek(0, os.SEEK_END)
            try:
                self.file.write(self.end)
                self.file.flush()
            except OSError:
                self.file.truncate(place)
                raise
            del self.end[:]

    def values(self, kind: Any) -> Array:
        """Return all values, as this type of numpy; no value may be added afterwards."""
        end = np.frombuffer(self.end, kind)
        if self.file is None or self.file.seek(0, os.SEEK_END) == 0:
            return end
        with self.file:  # what is mapped stays mapped
            before = np.asarray(np.memmap(self.file, kind, "r"))
        return np.concatenate([before, end]) if len(end) else before


class Building:
    """Columns that are made line by line."""

    def __init__(self) -> None:
        self._texts = {column: _Growing(bytearray()) for column in TEXTS}
        self._sizes = dict.fromkeys(TEXTS, 0)
        self._ends = {column: _Growing(array("q")) for column in TEXTS}
        self._numbers = {column: _Growing(array(code)) for column, code in zip(NUMBERS, "iqdqB", strict=True)}
        self._hashes, self._last = _Growing(bytearray()), ("", origin_hash(""))
        self._lines = 0
        self._before, self._is_sorted = "", True
        self._codes: dict[tuple[Any, ...], int] = {}
        self._facts: list[Entry] = []

    def add(self, line: Line) -> None:
        """Add a line after all others."""
        entry = line.entry
        self._is_sorted &= self._before < line.name
        self._before = line.name
        for column, text in zip(TEXTS, (line.name, entry.fingerprint, entry.origin, entry.checksum), strict=True):
            data = encoded(text)
            self._texts[column].end += data
            self._sizes[column] += len(data)
            self._ends[column].end.append(self._sizes[column])
        code = self._codes.setdefault(shared_facts(entry), len(self._facts))
        if code == len(self._facts):
            self._facts.append(attrs.evolve(entry, bytes=0, fingerprint="", origin="", checksum=""))
        values = (code, entry.bytes, line.time, line.changed, line.removed)
        for column, value in zip(NUMBERS, values, strict=True):
            self._numbers[column].end.append(value)
        if self._last[0] != entry.origin:
            self._last = entry.origin, origin_hash(entry.origin)
        self._hashes.end += self._last[1]
        self._lines += 1
        if self._lines % SPILLED == 0:
            self._spill()

    def _spill(self) -> None:
        for each in (*self._texts.values(), *self._ends.values(), *self._numbers.values(), self._hashes):
            each.spill()

    def columns(self) -> Columns:
        """Return the columns, sorted by name. Of several lines about a sample, the last counts."""
        if self._lines > SPILLED:  # so that no column is joined in memory
            self._spill()
        arrays: dict[str, Array] = {name: own.values(NUMBERS[name]) for name, own in self._numbers.items()}
        for column in TEXTS:
            arrays[column] = self._texts[column].values(np.uint8)
            arrays[f"{column}.ends"] = self._ends[column].values(np.int64)
        arrays[ORIGIN_HASH] = hashes_in(self._hashes.values(np.uint8))
        unsorted = Columns(arrays, tuple(self._facts))
        if self._is_sorted:  # as merged manifests are
            return unsorted
        last = {name: row for row, name in enumerate(unsorted.names)}
        return unsorted.taken([last[name] for name in sorted(last)])


def together(parts: Sequence[Columns], chosen: Sequence[tuple[int, int]]) -> Columns:
    """Return rows of several columns.

    Args:
        parts: the columns.
        chosen: the number of the part and the row of each sample, in the order of the names.
    """
    if len(parts) == 1:
        return parts[0] if len(chosen) == len(parts[0]) else parts[0].taken([row for _, row in chosen])
    facts = list({shared_facts(each): each for part in parts for each in part.facts}.values())
    codes = {shared_facts(each): code for code, each in enumerate(facts)}
    begins, arrays = np.cumsum([0, *map(len, parts)]), dict[str, Array]()
    for column in (each for each in parts[0].arrays if all(each in part.arrays for part in parts)):
        arrays[column] = np.concatenate([part.arrays[column] for part in parts])
    for column in TEXTS:
        sizes = np.cumsum([0, *(len(part.arrays[column]) for part in parts)])
        arrays[f"{column}.ends"] = np.concatenate(
            [part.arrays[f"{column}.ends"] + size for part, size in zip(parts, sizes[:-1], strict=True)]
        )
    of_part = []
    for part in parts:
        own = np.asarray([codes[shared_facts(each)] for each in part.facts], np.int32)
        of_part.append(own[part.arrays["facts"]])
    arrays["facts"] = np.concatenate(of_part)
    return Columns(arrays, tuple(facts)).taken([int(begins[part]) + row for part, row in chosen])


def origin_hash(origin: str) -> bytes:
    """Return the first 16 bytes of the SHA-256 of an origin; zeros if there is none."""
    return hashlib.sha256(origin.encode("utf-8", "backslashreplace")).digest()[:16] if origin else bytes(16)


def hashes_in(data: bytes | bytearray | Array) -> Array:
    """Return hashes of 16 bytes each as pairs of numbers `[N, 2]` that are in the order of the hashes."""
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 2)


def encoded(text: str) -> bytes:
    """Return a text in UTF-8, in which texts have the same order. Parts of names that are not text are kept."""
    return text.encode("utf-8", "surrogatepass")


def decoded(data: bytes) -> str:
    """Return the text that `encoded` encoded."""
    return data.decode("utf-8", "surrogatepass")


def _taken(text: Array, ends: Array, rows: Array) -> tuple[Array, Array]:
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    data = np.ascontiguousarray(text).data
    parts = [data[start:end] for start, end in zip(starts[rows].tolist(), ends[rows].tolist(), strict=True)]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum((ends - starts)[rows], dtype=np.int64)
