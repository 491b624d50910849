"""Is a media file all there? Told from what its container says of its own length, without decoding it.

FFmpeg plays what there is of a file that was cut short and says nothing, so a half-copied recording would train as a shorter one.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_UNKNOWN_SIZE = frozenset({0, 0xFFFFFFFF})
"""What a recorder writes into a RIFF header when it does not yet know how long the recording becomes."""

_OGG_HEADER = 27
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def is_cut_short(path: Path) -> bool:
    """Whether a WAV or AVI, MP4 or MOV, Ogg, Matroska or WebM, or JPEG file ends before its own structure does; false for every other format, such
    as MP3 and MPEG-TS, which do not know their length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in (b"RIFF", b"RF64"):
            return _riff_is_short(start, size)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_are_short(file, size)
        if start[:4] == b"OggS":
            return _ogg_is_short(file, size)
        if start[:4] == _EBML:
            return _matroska_is_short(file, size)
        if start[:2] == b"\xff\xd8":
            return _jpeg_is_short(file)
    return False


def _riff_is_short(start: bytes, size: int) -> bool:
    """RIFF: the size in the header counts what follows its first 8 bytes; an odd last chunk may lack its padding byte."""
    declared = int.from_bytes(start[4:8], "little")
    return start[:4] == b"RIFF" and declared not in _UNKNOWN_SIZE and declared + 8 > size + 1


def _boxes_are_short(file: BinaryIO, size: int) -> bool:
    """ISO base media: a chain of boxes, each led by its size; 1: a 64-bit size follows, 0: it goes on to the end of the file."""
    at = 0
    kinds = set()
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        kinds.add(header[4:8])
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:
            at = size
            break
        if length < 8:
            return False  # not a chain of boxes after all; let the demuxer speak
        at += length
    return at > size or b"moov" not in kinds


def _ogg_is_short(file: BinaryIO, size: int) -> bool:
    """Ogg: a chain of pages, each with a table of its segments' lengths; a file that was cut ends inside a page."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(_OGG_HEADER)
        if header[:4] != b"OggS"[: len(header)]:
            return False  # something else follows, tags of another program for example
        if len(header) < _OGG_HEADER:
            return True
        table = file.read(header[26])
        at += _OGG_HEADER + header[26] + sum(table)
    return at > size


def _matroska_is_short(file: BinaryIO, size: int) -> bool:
    """Matroska: a header element, then a segment that holds all the rest; a live recording does not say how long that is."""
    file.seek(len(_EBML))
    length = _ebml_size(file)
    if length is None:
        return False
    file.seek(length, 1)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return size < len(_EBML) + length
    length = _ebml_size(file)
    return length is not None and file.tell() + length > size


def _ebml_size(file: BinaryIO) -> int | None:
    """A number of 1 to 8 bytes, as many as its first one has leading zero bits and one more; None: all ones, not known, or not there."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _jpeg_is_short(file: BinaryIO) -> bool:
    """JPEG: an end marker follows the last scan. A thumbnail has its own, but its scan comes before the picture's."""
    file.seek(0)
    content = file.read()
    return content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
