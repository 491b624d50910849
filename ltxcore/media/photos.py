"""Pictures that Pillow can read and FFmpeg cannot, or only in part: animated WebP, and AVIF and HEIC photographs, of which FFmpeg sees only
one of many tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from ltxcore.errors import DataError
from ltxcore.files import why_unreadable
from ltxcore.media.boxes import described_colours, photograph
from ltxcore.media.container import blaming, check_whole, damaged
from ltxcore.media.hdr_frames import Tags
from ltxcore.media.times import Times

_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"})

_MILLISECOND = Fraction(1, 1000)
_WEBP_IS_ANIMATED = 0x02
_WEBP_LASTS_AT = 12
"""The offset, in the chunk of a WebP frame, of the three bytes that state how long the frame is shown."""


@attrs.frozen(eq=False)
class Photo:
    """A photograph, or pictures that are shown one after the other.

    Attributes:
        path: the file.
        height, width: the size of the frames, in pixels.
        is_upright: whether the decoded frames are turned as they should be shown; those of AVIF and HEIC are, and those of animated WebP
            are not.
        lasts: the number of milliseconds for which each picture is shown; empty for a single picture, which has no duration.
        is_transparent: whether pixels may be transparent.
        image: a function that opens the file with Pillow.
    """

    path: Path
    height: int
    width: int
    is_upright: bool
    lasts: tuple[int, ...]
    is_transparent: bool
    image: Callable[[BinaryIO], Any] = attrs.field(repr=False)

    @property
    def is_image(self) -> bool:
        """Whether the file is a single picture."""
        return not self.lasts

    @property
    def count(self) -> int:
        """The number of pictures."""
        return len(self.lasts) or 1

    @property
    def rate(self) -> Fraction | None:
        """The average number of pictures per second; None for a single picture.

        Raises:
            DataError: the pictures have no duration.
        """
        if self.is_image:
            return None
        if not sum(self.lasts):
            raise DataError(
                "this clip does not say how many frames per second it has",
                where=str(self.path),
                remedy="Encode the clip again at a constant frame rate.",
            )
        return self.count / (sum(self.lasts) * _MILLISECOND)

    @property
    def times(self) -> Times | None:
        """The times at which the pictures are shown; None for a single picture."""
        return Times(tuple(accumulate(self.lasts[:-1], initial=0)), sum(self.lasts), _MILLISECOND) if self.lasts else None

    @property
    def seconds(self) -> list[float]:
        """The time at which each picture is shown, in seconds; an empty list for a single picture."""
        return [] if self.times is None else [float(at * _MILLISECOND) for at in self.times.starts]

    @property
    def corrections(self) -> tuple[str, ...]:
        """The corrections that apply to the pictures and that an option can change, by their names in `encode.outdated.CORRECTIONS`.
        Version 0.1.0 could not read such files.
        """
        colours = described_colours(self.path) if self.is_image else None
        is_hdr = colours is not None and Tags(transfer=colours[1]).is_hdr
        return tuple(name for name, applies in (("alpha", self.is_transparent), ("hdr", is_hdr)) if applies)

    def frames(self) -> Iterator[Any]:
        """Decode the pictures to PyAV frames with times, in RGB with or without alpha.

        Raises:
            DataError: the pictures do not decode.
        """
        import av
        import numpy as np

        colours = described_colours(self.path) if self.is_image else None
        at = 0
        with self.path.open("rb") as file:
            for index, image in enumerate(self._images(file)):
                pixels = np.asarray(image)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgba" if pixels.shape[2] == 4 else "rgb24")
                frame.pts, frame.time_base = at, _MILLISECOND
                if colours is not None:
                    frame.color_primaries, frame.color_trc = colours
                at += self.lasts[index] if self.lasts else 0
                yield frame

    def _images(self, file: BinaryIO) -> Iterator[Any]:
        """Decode the pictures to Pillow images."""
        from PIL import ImageOps

        with _pillows(self.path):
            image = self.image(file)
            for index in range(self.count):
                if self.lasts:
                    image.seek(index)
                image.load()
                shown = ImageOps.exif_transpose(image) if self.is_upright else image
                yield shown.convert("RGBA" if shown.has_transparency_data else "RGB")


def photo_of(path: Path) -> Photo | None:
    """Return the photograph in a file that only Pillow can read; None for any other file, and for a file that cannot be read at all.

    Raises:
        DataError: the file is such a photograph, but is cut short or damaged.
    """
    if why_unreadable(path):
        return None
    with blaming(path, opening=True), path.open("rb") as file:
        start = file.read(21)
    is_webp = start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and bool(start[20:21]) and bool(start[20] & _WEBP_IS_ANIMATED)
    if is_webp:
        image, lasts = _webp, _webp_lasts(path)
    elif start[4:8] == b"ftyp" and (brands := photograph(path)) & (_AVIF | _HEIC):
        image, lasts = (_avif if brands & _AVIF else _heic), ()
    else:
        return None
    check_whole(path)
    with _pillows(path), path.open("rb") as file:
        opened = image(file)
        width, height = opened.size
        is_transparent = bool(opened.has_transparency_data)
        if not is_webp and opened.getexif().get(0x0112, 1) in (5, 6, 7, 8):
            width, height = height, width
    return Photo(path, height, width, not is_webp, lasts if len(lasts) > 1 else (), is_transparent, image)


def _avif(file: BinaryIO) -> Any:
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(file)


def _heic(file: BinaryIO) -> Any:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DataError("reading HEIC photographs needs pillow-heif, which is not installed", remedy="pip install pillow-heif") from error
    return HeifImageFile(file)  # type: ignore[no-untyped-call]


def _webp(file: BinaryIO) -> Any:
    from PIL import WebPImagePlugin

    return WebPImagePlugin.WebPImageFile(file)


def _webp_lasts(path: Path) -> tuple[int, ...]:
    """Read, from the chunks of an animated WebP, for how many milliseconds each picture is shown."""
    lasts = []
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[4:], "little")
            content = file.read(16) if header[:4] == b"ANMF" else b""
            if content:
                lasts.append(int.from_bytes(content[_WEBP_LASTS_AT : _WEBP_LASTS_AT + 3], "little"))
            file.seek(length + length % 2 - len(content), 1)
    return tuple(lasts)


@contextmanager
def _pillows(path: Path) -> Iterator[None]:
    """Turn errors of Pillow and its codecs inside the block into a DataError that names the file. The block must run nothing else."""
    try:
        yield
    except DataError as error:
        raise error.at(str(path)) from error
    except Exception as error:  # Pillow may raise any exception
        raise damaged(path, str(error) or type(error).__name__) from error
