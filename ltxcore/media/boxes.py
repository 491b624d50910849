"""Functions that find out, without a decoder, how pictures are shown. They read the boxes of MP4 and MOV files, and of photographs in the
same format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_AS_STORED = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The display matrix that leaves pictures as stored."""

_MATRIX_AT = {b"mvhd": (36, 48), b"tkhd": (40, 52)}
"""The offsets of the display matrix in the boxes of the whole film and of a track, with 32-bit times and with 64-bit times."""

_MOST_BYTES = 1 << 26

_PHOTOGRAPHS_IN_TRACKS = (b"jpeg", b"mjp", b"png ", b"tiff", b"mp4v")
"""The codecs whose frames may state how they are shown; the last one may mean MPEG-4 or JPEG."""


def shows_as_stored(path: Path) -> bool:
    """Return whether a file states that its pictures are shown as stored.

    False means that it states otherwise or is of another kind, and that a frame must be decoded to find out.
    """
    content = moov(path)
    if any(codec in content for codec in _PHOTOGRAPHS_IN_TRACKS):
        return False
    matrices = [_matrix(kind, content) for kind, content in _leaves(content)]
    return bool(matrices) and all(matrix == _AS_STORED for matrix in matrices)


def photograph(path: Path) -> frozenset[bytes]:
    """Return the brands of a file that holds items (AVIF, HEIC) rather than tracks; for other files the set is empty."""
    with path.open("rb") as file:
        start = file.read(16)
        if start[4:8] != b"ftyp" or _box(path, b"moov") is not None:
            return frozenset()
        rest = file.read(min(max(0, int.from_bytes(start[:4], "big") - 16), 1024))
    found = frozenset({start[8:12], *(rest[at : at + 4] for at in range(0, len(rest) - 3, 4))})
    return found if _box(path, b"meta") is not None else frozenset()


def described_colours(path: Path) -> tuple[int, int] | None:
    """Return the primaries and the transfer function of a photograph's colors, as numbers of H.273; None if they are not stated."""
    meta = _box(path, b"meta") or b""
    at = meta.find(b"colrnclx")
    return None if at < 0 or at + 12 > len(meta) else struct.unpack_from(">2H", meta, at + 8)


def moov(path: Path) -> bytes:
    """Read the content of the box that describes the tracks; it is empty if there is no such box."""
    return _box(path, b"moov") or b""


def _box(path: Path, kind: bytes) -> bytes | None:
    """Read the content of the first top-level box of a kind; None if there is no such box. The content is empty if it is too large to
    read.
    """
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
    """Split content into the boxes that follow each other in it, and yield the kind and the content of each box."""
    at = 0
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if length < 8:
            return
        yield kind, content[at + 8 : at + length]
        at += length


def inside(content: bytes, *kinds: bytes) -> Iterator[bytes]:
    """Yield the contents of nested boxes: boxes of the last kind within boxes of the kind before it, and so on."""
    for kind, held in boxes(content):
        if kind == kinds[0]:
            yield from inside(held, *kinds[1:]) if kinds[1:] else (held,)


def _leaves(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the boxes that hold a display matrix, for the whole film and for its tracks."""
    for kind, held in boxes(content):
        if kind == b"trak":
            yield from _leaves(held)
        elif kind in _MATRIX_AT:
            yield kind, held


def _matrix(kind: bytes, content: bytes) -> bytes:
    at = _MATRIX_AT[kind][content[:1] == b"\1"]
    return content[at : at + len(_AS_STORED)]
