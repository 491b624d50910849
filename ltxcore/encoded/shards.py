"""Shards, in which a folder of samples may keep the files of its samples: a few large files in place of many small ones.

A shard is a safetensors file in the folder of the samples, `shard-00000.safetensors` and so on, with a tensor of bytes for each file, named
after the path of the file in the folder. These bytes are those of the file, so that a sample has the same size, header and checksum in a
shard as in a file of its own, and nothing else about it changes: manifests, names and the order of samples are the same. A sample is read
from its place in the shard, without the rest of the shard.

A file of its own counts before one in a shard, and a later shard before an earlier one, so that samples can be encoded again or added.

Files may also lie on another machine, in shards or not: a folder is then told their places (`lies_elsewhere`).
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import attrs

from ltxcore.encoded.places import Place, PlacesMade, places_at
from ltxcore.encoded.user_cache import index_in_cache
from ltxcore.errors import DataError
from ltxcore.files import matching, replacing, write_whole

SHARD = re.compile(r"shard-\d{5}\.safetensors")
MOST_SHARDS = 100_000
"""The maximum number of shards in a folder, whose numbers have five digits."""

Slots = dict[str, dict[str, Any]]
"""The entries of a header by name, each with the place of a tensor."""

LAYOUT = "ltx-shard"
"""The value of "layout" in the metadata of a shard, which tells it from a sample of the same name."""

LONGEST_HEADER = 100_000_000
"""The maximum number of bytes of a header, which is safetensors' own limit."""

SETTLED = 2 * 10**9
"""The nanoseconds after which a folder that changes again certainly has another time: the coarsest clock of a file system."""

MANY = 20_000
"""The number of files in shards from which on the table of their places is kept in the user's cache."""

PIECE = 2**22
"""The number of bytes that are copied at a time."""


@attrs.frozen
class _Known:
    """What was found in the shards of a folder.

    Attributes:
        marks: the names, sizes and times of the shards.
        places: the places of the files in them, by their paths relative to the folder.
        folder_changed: the time of the folder's last change, in nanoseconds.
        looked: the time when this was found, in nanoseconds.
    """

    marks: tuple[tuple[str, int, int], ...]
    places: Mapping[str, Place]
    folder_changed: int
    looked: int

    def still(self, folder_changed: int) -> bool:
        """Return whether the folder certainly still has the same shards. A folder that changes again soon may have the same time."""
        return folder_changed == self.folder_changed and self.looked - folder_changed > SETTLED


_known: dict[Path, _Known] = {}
_elsewhere: dict[Path, Mapping[str, Place]] = {}


def lies_elsewhere(folder: Path, places: Mapping[str, Place]) -> None:
    """Tell this process that the files of a folder lie on another machine.

    Args:
        folder: the folder, which has no shards of its own.
        places: the places of the files, by their paths relative to the folder.
    """
    _elsewhere[folder] = places


def is_shard(path: Path) -> bool:
    """Return whether a file is a shard, by its name and its header."""
    return SHARD.fullmatch(path.name) is not None and _header(path) is not None


def in_shards(folder: Path) -> Mapping[str, Place]:
    """Return the places of the files that the shards of a folder hold, by their paths relative to the folder; empty if there is no folder.

    Raises:
        OSError: the folder or a shard cannot be read.
    """
    if folder in _elsewhere:
        return _elsewhere[folder]
    looked = time.time_ns()
    try:
        changed = folder.stat().st_mtime_ns
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.stat()) for entry in entries if SHARD.fullmatch(entry.name) and entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return MappingProxyType({})
    marks = tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)
    known = _known.get(folder)
    if known is None or known.marks != marks:
        places = _places(folder, marks)
    else:
        places = known.places
    _known[folder] = _Known(marks, places, changed, looked)
    return places


def _places(folder: Path, marks: Sequence[tuple[str, int, int]]) -> Mapping[str, Place]:
    mark, kept = repr(marks), index_in_cache(folder).with_suffix(".places")
    if marks and (found := places_at(kept, mark, folder)) is not None:
        return found
    made = PlacesMade()
    for name, _, changed in marks:
        if (header := _header(folder / name)) is not None:
            made.add_shard(name, changed, places_of(header))
    places = made.places(folder)
    if len(places) >= MANY:
        with suppress(OSError):  # the headers are read again next time
            places.save(kept, mark)
            return places_at(kept, mark, folder) or places
    return places


def place_in(folder: Path, relative: str) -> Place | None:
    """Return the place of a file in the shards of a folder; None if no shard holds it. A folder that did not change is not looked at again.

    Raises:
        OSError: the folder or a shard cannot be read.
    """
    if folder in _elsewhere:
        return _elsewhere[folder].get(relative)
    known = _known.get(folder)
    if known is None or not known.still(_changed(folder)):
        return in_shards(folder).get(relative)
    return known.places.get(relative)


def place_of_file(path: Path) -> Place | None:
    """Return the place of a file in the shards of a folder above it, if this process has already looked at the shards or was told where the
    files lie; None if there is none.

    Raises:
        OSError: as in `place_in`.
    """
    folder = next((folder for folder in path.parents if folder in _known or folder in _elsewhere), None)
    return None if folder is None else place_in(folder, str(path)[len(str(folder)) + 1 :].replace(os.sep, "/"))


def _changed(folder: Path) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - a Path's own method takes longer, and this is done at every read
    except FileNotFoundError:
        return 0


def pack(folder: Path, files: Sequence[tuple[str, int]], most: int, packed: Callable[[], object] = lambda: None) -> int:
    """Move files into new shards, and return the number of shards. If the work is interrupted, every file is in a shard or in a file of its
    own, and the next call does the rest.

    Args:
        folder: the folder of the samples.
        files: the path, relative to the folder, and the size of each file.
        most: the number of bytes after which the next shard begins.
        packed: a function that is called after each file that was moved.

    Raises:
        DataError: a file changes meanwhile, or there would be too many shards.
        OSError: a file cannot be read or written.
    """
    first, count, places = next_shard(folder), 0, in_shards(folder)
    left = []
    for relative, size in files:
        if relative in places and _is_at(folder / relative, places[relative]):  # the work was interrupted before the file was removed
            (folder / relative).unlink()
            packed()
        else:
            left.append((relative, size))
    groups = [*groups_of(left, most)]
    if first + len(groups) > MOST_SHARDS:
        remedy = f"Unpack them with `ltx shard --unpack {folder.parent}`, and pack them again with a larger --size."
        raise DataError(f"would have more than {MOST_SHARDS:,} shards", where=str(folder), remedy=remedy)
    for number, group in enumerate(groups, first):
        count += 1
        marks = _write(folder / f"shard-{number:05}.safetensors", folder, group)
        for (relative, _), mark in zip(group, marks, strict=True):
            if _mark((folder / relative).stat()) == mark:  # a file that was replaced meanwhile stays, and counts before the shard
                (folder / relative).unlink()
            packed()
    return count


def unpack(folder: Path, unpacked: Callable[[], object] = lambda: None) -> int:
    """Move the files in all shards of a folder into files of their own, and return the number of files.

    Raises:
        OSError: a file cannot be read or written.
    """
    places, count = in_shards(folder), 0
    for relative, place in places.items():
        if not (folder / relative).exists():
            write_whole(folder / relative, _whole(place))
            count += 1
        unpacked()
    for shard in {place.shard for place in places.values()} | {path for path in matching(folder, "shard-*.safetensors") if is_shard(path)}:
        shard.unlink()
    return count


def read_place(place: Place, most: int, count: int | None = None) -> memoryview | int:
    """Read a file from its place, into memory that can be written; or return its number of bytes if it is larger than `most`.

    Args:
        place: the place.
        most: the maximum number of bytes.
        count: the number of bytes to read, from the beginning; None for all.

    Raises:
        OSError: the shard cannot be read.
        DataError: the shard is on another machine, and cannot be read.
    """
    from ltxcore.encoded.buffers import read_buffer  # which loads torch, and commands list sets without it

    size = place.bytes if count is None else min(count, place.bytes)
    if size > most or place.fetch is None:
        return read_buffer(place.shard, most, place.begin, size)
    return place.fetch(place.begin, size)


def _whole(place: Place) -> bytes:
    return bytes(read_place(place, sys.maxsize))


def _is_at(path: Path, place: Place) -> bool:
    return path.stat().st_size == place.bytes and path.read_bytes() == _whole(place)


def next_shard(folder: Path) -> int:
    """Return the number after those of all shards of a folder."""
    return max((int(path.name[6:11]) + 1 for path in matching(folder, "shard-*.safetensors") if SHARD.fullmatch(path.name)), default=0)


def groups_of(files: Sequence[tuple[str, int]], most: int) -> Iterator[list[tuple[str, int]]]:
    """Divide files, each a path with its size in bytes, into groups for shards that end after `most` bytes."""
    group: list[tuple[str, int]] = []
    total = 0
    for relative, size in files:
        group.append((relative, size))
        total += size
        if total >= most:
            yield group
            group, total = [], 0
    if group:
        yield group


def _mark(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _write(path: Path, folder: Path, group: Sequence[tuple[str, int]]) -> list[tuple[int, int, int]]:
    """Write a shard, and return marks by which a later change of each of its files is noticed."""
    with replacing(path) as beside, beside.open("wb") as out:
        return write_shard(out, folder, group)


def write_shard(out: BinaryIO, folder: Path, group: Sequence[tuple[str, int]]) -> list[tuple[int, int, int]]:
    """Write the content of a shard.

    Args:
        out: an open file.
        folder: the folder of the samples.
        group: the path, relative to the folder, and the size of each file.

    Returns:
        For each file, its number in the file system, its size and its time of change, which show whether it changes later.

    Raises:
        DataError: a file changes meanwhile, or there are too many.
        OSError: a file cannot be read or written.
    """
    slots, end, marks = {}, 0, []
    for relative, size in group:
        slots[relative] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    header = json.dumps({"__metadata__": {"layout": LAYOUT}, **slots}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > LONGEST_HEADER:
        raise DataError("would have too many samples in a shard", where=str(folder), remedy="Choose smaller shards.")
    out.write(struct.pack("<Q", len(header)) + header)
    for relative, size in group:
        with (folder / relative).open("rb") as file:
            marks.append(_mark(os.fstat(file.fileno())))
            if _copied(file, out) != size:
                raise DataError("changed while it was read", where=str(folder / relative), remedy="Run the same command again.")
    return marks


def _copied(file: BinaryIO, out: BinaryIO) -> int:
    size = 0
    while piece := file.read(PIECE):
        size += out.write(piece)
    return size


def places_of(header: tuple[int, Slots]) -> dict[str, tuple[int, int]]:
    """Return for each file in a shard the number of bytes before it and its size, given what `slots_in` returned."""
    begin, slots = header
    offsets = ((relative, slot["data_offsets"]) for relative, slot in slots.items())
    return {relative: (begin + first, last - first) for relative, (first, last) in offsets}


def stays_inside(name: str) -> bool:
    """Return whether a relative path, with "/" between its parts, leads to a place in the folder that it is relative to."""
    path, parts = Path(name), name.split("/")  # Path follows the system's rules: on Windows a backslash separates too
    return not (path.is_absolute() or path.drive or ".." in path.parts or any(part in ("", ".", "..") for part in parts) or "\0" in name)


def _header(path: Path) -> tuple[int, Slots] | None:
    with path.open("rb") as file:
        data = file.read(8)
        if len(data) == 8 and (size := struct.unpack("<Q", data)[0]) <= LONGEST_HEADER:
            data += file.read(size)
        return slots_in(data, os.fstat(file.fileno()).st_size, path)


def slots_in(data: bytes, whole: int, path: Path) -> tuple[int, Slots] | None:
    """Return where the files begin in a shard, and their slots; None if this is no shard.

    Args:
        data: the first bytes of the shard, up to the end of its header or further.
        whole: the size of the shard.
        path: the path of the shard, for messages.

    Raises:
        OSError: the shard is shorter than its header says.
    """
    try:
        (size,) = struct.unpack_from("<Q", data)
        slots: Slots = json.loads(data[8 : 8 + size])
        if slots.pop("__metadata__")["layout"] != LAYOUT:
            return None
        places = [(slot["dtype"], *slot["data_offsets"]) for slot in slots.values()]
        ends = [end for _, _, end in places]
        is_sound = all(map(stays_inside, slots)) and all(
            dtype == "U8" and type(first) is type(last) is int and 0 <= first <= last for dtype, first, last in places
        )
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, LookupError, RecursionError):
        return None
    if not is_sound or 8 + size + max(ends, default=0) > whole:
        raise OSError(None, "the shard is damaged or was not copied whole", str(path))
    return 8 + size, slots
