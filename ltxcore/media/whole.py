"""Functions that detect media files that were cut short. They compare a file with the length that its container states, and decode nothing.

FFmpeg plays what there is of a file that was cut short, and reports nothing. A half-copied recording would be trained on as if it were a
shorter one.
"""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import BinaryIO

_ENDLESS = ((0, 0), (0x7FFFF000, 0x80000100), (0xFFFFFF00, 0xFFFFFFFF), (1 << 62, 1 << 64))
"""The ranges of sizes in a header, both ends included, which mean that a recorder did not know the length of the recording yet, or could
not go back to write it.
"""

_WAVES = (b"RIFF", b"RF64", b"BW64")
_MOST_CHUNKS = 64

_OGG_HEADER = 27
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def is_cut_short(path: Path) -> bool:
    """Return whether a file ends earlier than its own structure says.

    This is known for WAV, AVI, MP4, MOV, AVIF, HEIC, Ogg, Matroska, WebM and JPEG. The result is False for all other formats, such as MP3
    and MPEG-TS, which do not state their length.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in _WAVES:
            return _riff_is_short(file, start, size)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_are_short(file, size)
        if start[:4] == b"OggS":
            return _ogg_is_short(file, size)
        if start[:4] == _EBML:
            return _matroska_is_short(file, size)
        if start[:2] == b"\xff\xd8":
            return _jpeg_is_short(file)
    return False


def says_no_length(path: Path) -> bool:
    """Return whether a WAV or CAF file does not state the length of its audio, because it was written to a pipe or by a recorder that was
    stopped.

    The audio then goes on to the end of the file, and whether it is complete cannot be known.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in _WAVES and start[8:] == b"WAVE":
            return _is_endless(_wave_size(file))
        return start[:4] == b"caff" and _caf_is_endless(file)


def as_readable(path: Path) -> FileIO | None:
    """Open a file that FFmpeg can read in place of a long WAV (RF64) without stated 64-bit sizes, which FFmpeg takes for empty; None for
    all other files.

    Without the name RF64, the 32-bit size counts; if it states nothing either, the audio goes on to the end of the file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in _WAVES[1:] and start[8:] == b"WAVE" and _is_endless(_wave_sizes(file)[1]):
            return _AsShort(path, "rb")
    return None


class _AsShort(FileIO):
    """A file whose first four bytes are read as RIFF."""

    def read(self, size: int | None = -1) -> bytes:
        at = self.tell()
        content = super().read(size) or b""
        return b"RIFF"[at : at + len(content)] + content[max(0, 4 - at) :] if at < 4 else content


def _is_endless(size: int | None) -> bool:
    return size is not None and any(low <= size <= high for low, high in _ENDLESS)


def _riff_is_short(file: BinaryIO, start: bytes, size: int) -> bool:
    """Return whether a RIFF file is cut short.

    The size in the header counts what follows the first 8 bytes; an odd last chunk may lack its padding byte. If this size is not stated,
    the size of a WAV's samples may be. In RF64, a chunk of 64-bit sizes states both.
    """
    declared = int.from_bytes(start[4:8], "little")
    if start[:4] == b"RIFF" and not _is_endless(declared):
        return declared + 8 > size + 1
    if start[8:] != b"WAVE":
        return False
    samples = _wave_size(file)
    return samples is not None and not _is_endless(samples) and file.tell() + samples > size


def _wave_size(file: BinaryIO) -> int | None:
    """Read how many bytes of samples a WAV states, and leave the file at the first sample; None if it has no samples."""
    short, long = _wave_sizes(file)
    return long if short == 0xFFFFFFFF and long is not None else short


def _wave_sizes(file: BinaryIO) -> tuple[int | None, int | None]:
    """Read the number of bytes of samples, as `_wave_size` does, from the 32-bit field and from the 64-bit field; None for a field that is
    missing.
    """
    file.seek(12)
    long = None
    for _ in range(_MOST_CHUNKS):
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data" or len(header) < 8:
            return (length if len(header) == 8 else None), long
        at = file.tell()
        if header[:4] == b"ds64":
            long = int.from_bytes(file.read(16)[8:], "little")
        file.seek(at + length + length % 2)
    return None, long


def _caf_is_endless(file: BinaryIO) -> bool:
    """Return whether a CAF file states no length. A CAF file has chunks with 64-bit sizes; the size of the samples is -1 if it is
    unknown.
    """
    file.seek(8)
    for _ in range(_MOST_CHUNKS):
        header = file.read(12)
        length = int.from_bytes(header[4:], "big", signed=True)
        if len(header) < 12 or length < 0 or header[:4] == b"data":
            return header[:4] == b"data" and length == -1
        file.seek(length, 1)
    return False


def _boxes_are_short(file: BinaryIO, size: int) -> bool:
    """Return whether an ISO base media file is cut short.

    Such a file is a sequence of boxes that begin with their size. A size of 1 means that a 64-bit size follows, and 0 that the box goes on
    to the end of the file. One box describes the tracks, or the items in AVIF and HEIC photographs.
    """
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
            return False  # these are not boxes after all; the demuxer reports what is wrong
        at += length
    return at > size or not kinds & {b"moov", b"meta"}


def _ogg_is_short(file: BinaryIO, size: int) -> bool:
    """Return whether an Ogg file is cut short.

    Such a file is a sequence of pages, each with a table of its segments' lengths; a file that was cut ends inside a page.
    """
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(_OGG_HEADER)
        if header[:4] != b"OggS"[: len(header)]:
            return False  # something else follows, such as tags of another program
        if len(header) < _OGG_HEADER:
            return True
        table = file.read(header[26])
        at += _OGG_HEADER + header[26] + sum(table)
    return at > size


def _matroska_is_short(file: BinaryIO, size: int) -> bool:
    """Return whether a Matroska file is cut short.

    A header element is followed by a segment that holds everything else; a live recording does not state the segment's length.
    """
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
    """Read a number of variable length.

    The number has one more byte than its first byte has leading zero bits. The result is None if the number is missing, or all ones, which
    means unknown.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _jpeg_is_short(file: BinaryIO) -> bool:
    """Return whether a JPEG is cut short. An end marker follows the picture's last scan; a thumbnail has its own end marker, but comes
    earlier.
    """
    file.seek(0)
    content = file.read()
    return content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
