"""Pictures turned the way their metadata say they are to be shown: the display matrix of a clip, the EXIF orientation of a photograph."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from ltxcore.errors import DataError

_EXIF_MARKER, _SCAN_MARKER = 0xE1, 0xDA
_ORIENTATION_TAG = 0x0112


@attrs.frozen
class Turn:
    """How stored pixels are shown: rows and columns exchanged or not, then mirrored across, then mirrored down."""

    exchanged: bool = False
    across: bool = False
    down: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width of stored pixels once they are shown, or the other way round."""
        return (width, height) if self.exchanged else (height, width)

    def applied(self, frames: Tensor) -> Tensor:
        """Frames `[F, H, W, 3]` as they are shown; H and W swap on a quarter turn."""
        frames = frames.transpose(1, 2) if self.exchanged else frames
        mirrored = [axis for axis, is_mirrored in ((2, self.across), (1, self.down)) if is_mirrored]
        return (frames.flip(mirrored) if mirrored else frames).contiguous()


_BY_ORIENTATION = (
    Turn(),
    Turn(across=True),
    Turn(across=True, down=True),
    Turn(down=True),
    Turn(exchanged=True),
    Turn(exchanged=True, across=True),
    Turn(exchanged=True, across=True, down=True),
    Turn(exchanged=True, down=True),
)
"""EXIF orientations 1 to 8."""


def turn_of(frame: Any, path: Path) -> Turn:
    """How a decoded frame is to be shown.

    Raises:
        DataError: turned by an angle that is no multiple of 90 degrees.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for EXIF data, and then shows no side data at all
        return _BY_ORIENTATION[exif_orientation(path.read_bytes()) - 1]
    return Turn() if matrix is None else turn_of_matrix(bytes(matrix), path)


def turn_of_matrix(matrix: bytes, path: Path) -> Turn:
    """The turn that a display matrix stands for: nine 32-bit numbers `a b u c d v x y w`, by which a stored pixel (x, y) is shown at
    `(a x + c y, b x + d y)`, up to a shift.

    Raises:
        DataError: it is no multiple of a quarter turn, with or without mirroring.
    """
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if a and d and not b and not c:
        return Turn(False, a < 0, d < 0)
    if b and c and not a and not d:
        return Turn(True, c < 0, b < 0)
    raise DataError(
        "this clip is to be shown turned by an angle that is no multiple of 90 degrees", where=str(path), remedy="Encode it anew, upright."
    )


def exif_orientation(content: bytes) -> int:
    """The orientation 1 to 8 in a JPEG file's EXIF data; 1, upright, where it says none."""
    at = 2
    while content[:2] == b"\xff\xd8" and at + 4 <= len(content):
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at] != 0xFF or marker == _SCAN_MARKER:
            break
        segment = content[at + 4 : at + 2 + length]
        if marker == _EXIF_MARKER and segment[:6] == b"Exif\0\0":
            return _orientation(segment[6:])
        at += 2 + length
    return 1


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _ORIENTATION_TAG and kind == 3 and 1 <= value <= 8:
            return int(value)
    return 1
