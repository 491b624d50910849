"""Functions that turn pictures upright according to their metadata: the display matrix of a clip, or the EXIF orientation of a photograph."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from torch import Tensor

from ltxcore.errors import DataError
from ltxcore.media.aspect import SQUARE, pixel_aspect, squared
from ltxcore.media.container import empty, frames_of, opened, side_data, unknown_codec, video_stream
from ltxcore.media.photos import photo_of

_ORIENTATION_TAG = 0x0112
_MATRIX = "DISPLAYMATRIX"

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@attrs.frozen
class Turn:
    """A turn from stored to shown pixels. Rows and columns may be exchanged; the picture may then be mirrored across, and then down."""

    exchanged: bool = False
    across: bool = False
    down: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Convert the height and width of stored pictures to the height and width as shown, or the other way round."""
        return (width, height) if self.exchanged else (height, width)

    def applied(self, frames: Tensor) -> Tensor:
        """Turn stored frames `[F, H, W, 3]` into frames as shown; a quarter turn swaps H and W."""
        frames = frames.transpose(1, 2) if self.exchanged else frames
        mirrored = [axis for axis, is_mirrored in ((2, self.across), (1, self.down)) if is_mirrored]
        return (frames.flip(mirrored) if mirrored else frames).contiguous()


_BY_ORIENTATION = {
    1: Turn(),
    2: Turn(across=True),
    3: Turn(across=True, down=True),
    4: Turn(down=True),
    5: Turn(exchanged=True),
    6: Turn(exchanged=True, across=True),
    7: Turn(exchanged=True, across=True, down=True),
    8: Turn(exchanged=True, down=True),
}
"""The turns for EXIF's orientation numbers."""


def shown_size(path: Path) -> tuple[int, int] | None:
    """Return the height and width of a file's pictures as shown, in pixels; None if there are no pictures. At most the first frame is
    decoded.

    Raises:
        DataError: as in `read_clip`.
    """
    found = first_look(path)
    return None if found is None else found.size


@attrs.frozen
class FirstLook:
    """The facts about a file's pictures that are known from its first frame.

    Attributes:
        size: the height and width of the pictures as shown, in pixels.
        is_turned_anew: whether version 0.1.0 turned the pictures differently.
    """

    size: tuple[int, int]
    is_turned_anew: bool


def first_look(path: Path) -> FirstLook | None:
    """Find the facts that are known from the first frame of a file; None if it has no pictures. At most this frame is decoded.

    Raises:
        DataError: as in `read_clip`.
    """
    photo = photo_of(path)
    if photo is not None and photo.is_upright:
        return FirstLook((photo.height, photo.width), is_turned_anew=False)
    with _first_frames(path) as found:
        if found is None:
            return None
        frames, aspect = found
        frame = next(frames, None)
        if frame is None:
            raise empty(path)
        size = turn_of(frame, path).size(*squared(frame.height, frame.width, aspect))
        return FirstLook(size, is_turned_anew(frame, path))


@contextmanager
def _first_frames(path: Path) -> Iterator[tuple[Iterator[Any], Fraction] | None]:
    """Yield the first frames of a file, and the aspect of their pixels; None if there are no pictures."""
    photo = photo_of(path)
    if photo is not None:
        yield photo.frames(), SQUARE
        return
    with opened(path, quick=True) as container:
        stream = video_stream(container)
        frames = [] if stream is None else _decoded_at_once(container, stream)
        if (unseen := unknown_codec(path, container, "pictures")) is not None:
            raise unseen
        if stream is None or frames:
            yield (iter(frames), pixel_aspect(container, stream) or SQUARE) if frames else None
            return
    with opened(path) as container:  # the first packet cannot be decoded alone
        stream = video_stream(container)
        yield frames_of(path, container, stream), pixel_aspect(container, stream) or SQUARE


def _decoded_at_once(container: Any, stream: Any) -> list[Any]:
    """Decode the frames of a stream's first packet. The list is empty if this packet cannot be decoded alone."""
    stream.thread_type, stream.thread_count = "NONE", 1
    packet = next(iter(container.demux(stream)))
    # If told that nothing follows, the decoder returns the frame at once, rather than wait for frames that may be shown before it.
    return [*packet.decode()] or [*stream.decode(None)]


def turn_of(frame: Any, path: Path) -> Turn:
    """Return how the first decoded frame of a file is to be turned. Pillow decides for photographs that it can read, and the display matrix
    for all other files.

    Raises:
        DataError: the frame is turned by an angle that is not a multiple of 90 degrees.
    """
    orientation = orientation_of(path)
    if orientation is not None:
        return _BY_ORIENTATION[orientation]
    matrix = _display_matrix(frame)
    return Turn() if matrix is None else turn_of_matrix(matrix, path)


def is_turned_anew(frame: Any, path: Path) -> bool:
    """Return whether the first decoded frame of a file is turned differently than in version 0.1.0.

    That version read the orientation only from the EXIF data of JPEG files, and missed a display matrix next to data that PyAV has no name
    for.
    """
    try:
        matrix = frame.side_data.get(_MATRIX)
    except ValueError:
        before = _BY_ORIENTATION[orientation_of(path, only_jpeg=True) or 1]
    else:
        before = Turn() if matrix is None else turn_of_matrix(bytes(matrix), path)
    return turn_of(frame, path) != before


def _display_matrix(frame: Any) -> bytes | None:
    matrix = side_data(frame).get(_MATRIX)
    return None if matrix is None else bytes(matrix)


def turn_of_matrix(matrix: bytes, path: Path) -> Turn:
    """Return the turn that a display matrix stands for.

    The matrix has nine 32-bit numbers `a b u c d v x y w`, by which a stored pixel (x, y) is shown at `(a x + c y, b x + d y)`, up to a
    shift.

    Raises:
        DataError: the matrix is not a whole number of quarter turns, with or without mirroring.
    """
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if a and d and not b and not c:
        return Turn(False, a < 0, d < 0)
    if b and c and not a and not d:
        return Turn(True, c < 0, b < 0)
    raise DataError(
        "this clip must be rotated for display by an angle that is not a multiple of 90 degrees",
        where=str(path),
        remedy="Encode the clip again, upright.",
    )


def orientation_of(path: Path, *, only_jpeg: bool = False) -> int | None:
    """Return the orientation, 1 to 8, of a JPEG, PNG, WebP or TIFF file, as Pillow finds it in EXIF or else in XMP; 1 (upright) if none is
    stated.

    Args:
        path: the file.
        only_jpeg: whether only the EXIF data of a JPEG counts.

    Returns:
        The orientation; None for other kinds of files, and for a file that FFmpeg can read but Pillow cannot.
    """
    with path.open("rb") as file:
        start = file.read(12)
        file.seek(0)
        if only_jpeg and start[:2] != b"\xff\xd8":
            return None
        try:
            exif = _exif(file, start, only_jpeg)
        except Exception:  # noqa: BLE001 - only Pillow runs here, and it may raise anything on damaged metadata
            return None
    if exif is None:
        return None
    found = exif.get(_ORIENTATION_TAG, 1)
    return found if found in _BY_ORIENTATION else 1


def _exif(file: BinaryIO, start: bytes, only_jpeg: bool) -> Any:
    """Read EXIF data with Pillow, with the orientation from XMP if EXIF has none; None for other kinds of files.

    Pillow's classes for each format are used directly, since `Image.open` would warn about large pictures, although none is decoded here.
    """
    from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    if start[:2] == b"\xff\xd8":
        photograph = JpegImagePlugin.JpegImageFile(file)
        if not only_jpeg:
            return photograph.getexif()
        exif = Image.Exif()
        exif.load(photograph.info.get("exif", b""))
        return exif
    if start[:8] == _PNG:
        tells_later = _png_tells_after_its_pixels(file)
        file.seek(0)
        image = PngImagePlugin.PngImageFile(file)
        return image.getexif() if tells_later else Image.Image.getexif(image)  # the first form decodes pixels to find what follows them
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(file).getexif()
    return TiffImagePlugin.TiffImageFile(file).getexif() if start[:4] in _TIFF else None


def _png_tells_after_its_pixels(file: BinaryIO) -> bool:
    at, pixels = len(_PNG), False
    while True:
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return False
        if pixels and header[4:] in _PNG_TEXTS:
            return True
        pixels = pixels or header[4:] == b"IDAT"
        at += 12 + int.from_bytes(header[:4], "big")
