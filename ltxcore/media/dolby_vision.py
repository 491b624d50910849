"""Functions that refuse Dolby Vision that only its own decoders can show. Dolby Vision is recognized by its configuration record in an MP4,
MOV or Matroska file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from ltxcore.errors import DataError
from ltxcore.media.boxes import boxes, inside, moov

_RECORDS = frozenset({b"dvcC", b"dvvC", b"dvwC"})
_COMPATIBLE = frozenset({0, 2, 4, 6, 7, 9})
"""The profiles with a base layer that can always be shown; early files of these profiles do not state this."""

_SAMPLE_ENTRY = 78
"""The number of bytes in a video sample entry before its boxes."""

_SEGMENT, _TRACKS, _CLUSTER = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"
"""The identifiers of Matroska's elements for the file, its tracks and its content."""

_ENTRY, _KIND, _MAPPING, _ADDED, _RECORD = b"\xae", b"\x83", b"\x41\xe4", b"\x41\xe7", b"\x41\xed"
"""The identifiers of Matroska's elements for a track, the track's kind, an addition to its blocks, the addition's kind, and the addition's
record.
"""

_PICTURES = 1
_MOST_BYTES = 1 << 20


@attrs.frozen
class DolbyVision:
    """A configuration record, with the profile, whether there is a base layer, and the format in which other decoders can show the base
    layer (0 if they cannot).

    Source: Dolby Vision Streams Within the ISO Base Media File Format, version 2.1.2, section 2.2
    """

    profile: int
    has_base: bool
    shown_as: int

    @classmethod
    def of(cls, record: bytes) -> DolbyVision | None:
        """Read a configuration record; None if it is too short."""
        if len(record) < 4:
            return None
        return cls(record[2] >> 1, bool(record[3] & 1), record[4] >> 4 if len(record) > 4 else 0)

    @property
    def can_be_shown(self) -> bool:
        """Whether decoders other than Dolby's can show the pictures in the right colors."""
        return self.has_base and (self.shown_as > 0 or self.profile in _COMPATIBLE)


def refuse_unshowable(path: Path, container: Any, stream: Any) -> None:
    """Refuse Dolby Vision without a base layer that other decoders can show.

    Raises:
        DataError: the video stream is such Dolby Vision.
    """
    found = _found(path, str(container.format.name).split(","), stream)
    if found is None or found.can_be_shown:
        return
    why = "whose colours (IPT-PQ-c2) only Dolby's decoders support" if found.has_base else "and this is only its enhancement layer"
    raise DataError(
        f"the video is Dolby Vision profile {found.profile}, {why}: there is no base layer that can be shown",
        where=str(path),
        remedy="Export the video again as HLG, HDR10 or BT.709, or convert it with a program that supports Dolby Vision, such as FFmpeg with its filter libplacebo.",
    )


def _found(path: Path, formats: list[str], stream: Any) -> DolbyVision | None:
    with path.open("rb") as file:
        if "mp4" in formats:
            record = _in_mp4(moov(path), int(stream.id))
        elif "matroska" in formats:
            record = _in_matroska(file, path.stat().st_size)
        else:
            return None
    return None if record is None else DolbyVision.of(record)


def _in_mp4(content: bytes, track: int) -> bytes | None:
    """Find the configuration record of a track in the content of the box that describes all tracks."""
    for trak in inside(content, b"trak"):
        header = next(inside(trak, b"tkhd"), b"")
        at = 20 if header[:1] == b"\1" else 12
        if int.from_bytes(header[at : at + 4], "big") != track:
            continue
        for description in inside(trak, b"mdia", b"minf", b"stbl", b"stsd"):
            for _, entry in boxes(description[8:]):
                return next((held for kind, held in boxes(entry[_SAMPLE_ENTRY:]) if kind in _RECORDS), None)
    return None


def _in_matroska(file: BinaryIO, size: int) -> bytes | None:
    """Find the configuration record of the first video track in a Matroska file."""
    for segment, start, end in _elements(file, 0, size):
        for tracks, first, last in _elements(file, start, end) if segment == _SEGMENT else ():
            for entry, opened, closed in _elements(file, first, last) if tracks == _TRACKS else ():
                parts = list(_elements(file, opened, closed)) if entry == _ENTRY else []
                if any(name == _KIND and _number(file, *place) == _PICTURES for name, *place in parts):
                    return next((found for name, *place in parts if name == _MAPPING and (found := _added(file, *place))), None)
            if tracks in (_TRACKS, _CLUSTER):
                break
    return None


def _added(file: BinaryIO, start: int, end: int) -> bytes | None:
    """Find the configuration record in an addition to a track's blocks, if the addition is Dolby Vision."""
    parts = {name: place for name, *place in _elements(file, start, end)}
    if _ADDED not in parts or _RECORD not in parts or _bytes(file, *parts[_ADDED]) not in _RECORDS:
        return None
    return _bytes(file, *parts[_RECORD])


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each element between two places, and where its content starts and ends."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        named = _length(head, 4)
        sized = _length(head[named:], 8)
        if not named or not sized or len(head) < named + sized:
            return
        size = int.from_bytes(head[named : named + sized], "big") & ((1 << 7 * sized) - 1)
        content = start + named + sized
        until = end if size == (1 << 7 * sized) - 1 else min(content + size, end)  # all ones mean that the element goes on to the end
        yield head[:named], content, until
        start = until


def _length(head: bytes, most: int) -> int:
    """Return how many bytes a number takes, according to its leading zero bits; 0 if their number is impossible."""
    length = 9 - head[0].bit_length() if head else 0
    return length if length <= most else 0


def _bytes(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(min(end - start, _MOST_BYTES))


def _number(file: BinaryIO, start: int, end: int) -> int:
    return int.from_bytes(_bytes(file, start, end), "big")
