"""What the boxes of an MP4 or MOV file say of how its pictures are to be shown, without opening a decoder; and those of photographs of that kind."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_AS_STORED = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The display matrix that leaves pictures as they are."""

_MATRIX_AT = {b"mvhd": (36, 48), b"tkhd": (40, 52)}
"""Where the matrix lies in the box of the whole film and in that of a track; with 32-bit times, and with 64-bit ones."""

_MOST_BYTES = 1 << 26

_PHOTOGRAPHS_IN_TRACKS = (b"jpeg", b"mjp", b"png ", b"tiff", b"mp4v")
"""Codecs whose frames may say for themselves how they are to be shown; the last may be MPEG-4 or JPEG."""


def shows_as_stored(path: Path) -> bool:
    """Whether the file says that its pictures are shown as they are stored; false where it says otherwise or is of another kind, and a frame has to be asked."""
    content = moov(path)
    if any(codec in content for codec in _PHOTOGRAPHS_IN_TRACKS):
        return False
    matrices = [_matrix(kind, content) for kind, content in _leaves(content)]
    return bool(matrices) and all(matrix == _AS_STORED for matrix in matrices)


def photograph(path: Path) -> frozenset[bytes]:
    """The brands of a file that holds items (AVIF, HEIC), not tracks; empty for every other."""
    with path.open("rb") as file:
        start = file.read(16)
        if start[4:8] != b"ftyp" or _box(path, b"moov") is not None:
            return frozenset()
        rest = file.read(min(max(0, int.from_bytes(start[:4], "big") - 16), 1024))
    found = frozenset({start[8:12], *(rest[at : at + 4] for at in range(0, len(rest) - 3, 4))})
    return found if _box(path, b"meta") is not None else frozenset()


def described_colours(path: Path) -> tuple[int, int] | None:
    """The primaries and the transfer function of a photograph's colours, in the numbers of H.273; none: it does not say."""
    meta = _box(path, b"meta") or b""
    at = meta.find(b"colrnclx")
    return None if at < 0 or at + 12 > len(meta) else struct.unpack_from(">2H", meta, at + 8)


def moov(path: Path) -> bytes:
    """The content of the box that describes the tracks; empty where there is none."""
    return _box(path, b"moov") or b""


def _box(path: Path, kind: bytes) -> bytes | None:
    """The content of the first box of a kind that is in no other, empty where it is too large to be looked at; none where there is none."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            header = file.read(16)
            length, skipped = int.from_bytes(header[:4], "big"), 8
            if length == 1:
                length, skipped = int.from_bytes(header[8:16], "big"), 16
            if length < skipped or length > size - at:
                return None
            if header[4:8] == kind:
                file.seek(at + skipped)
                return file.read(length - skipped) if length <= _MOST_BYTES else b""
            at += length
    return None


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes that lie one after the other in some content: the kind of each, and its own content."""
    at = 0
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if length < 8:
            return
        yield kind, content[at + 8 : at + length]
        at += length


def inside(content: bytes, *kinds: bytes) -> Iterator[bytes]:
    """The contents of the boxes of the last kind, in boxes of the kind before, and so on."""
    for kind, held in boxes(content):
        if kind == kinds[0]:
            yield from inside(held, *kinds[1:]) if kinds[1:] else (held,)


def _leaves(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes that hold a matrix, in the box of the film and in those of its tracks."""
    for kind, held in boxes(content):
        if kind == b"trak":
            yield from _leaves(held)
        elif kind in _MATRIX_AT:
            yield kind, held


def _matrix(kind: bytes, content: bytes) -> bytes:
    at = _MATRIX_AT[kind][content[:1] == b"\1"]
    return content[at : at + len(_AS_STORED)]
