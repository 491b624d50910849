"""What a media file holds, as a record that needs no torch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.media.aspect import SQUARE
from ltxcore.media.times import Uneven


@attrs.frozen
class MediaInfo:
    """What a file holds, known without decoding it.

    Attributes:
        path: the file.
        frames: that its video stream shows; None: it has no pictures.
        height, width: pixels as they are stored, before they are turned upright and stretched; None: no pictures.
        rate: frames per second, exact, on the average where they are uneven; None: no pictures, or an image.
        duration: seconds of its pictures, or of its sound if it has none; None: an image, or not known.
        sound_rate: samples per second; None: no sound, or none that can be decoded.
        channels: of its sound; None: likewise.
        is_image: whether it is a single picture.
        picture_corrections: what is set right in its pictures that 0.1.0 got wrong, by their names in `corrections.CORRECTIONS`, sorted.
        sound_corrections: likewise in its sound.
        unheard: why its sound cannot be decoded, where that is so.
        aspect: width of a stored pixel divided by its height.
        uneven: what becomes of its frames at a constant rate; None: they are shown equally long, or it is not known when they are shown.
    """

    path: Path
    frames: int | None
    height: int | None
    width: int | None
    rate: Fraction | None
    duration: float | None
    sound_rate: int | None
    channels: int | None
    is_image: bool
    picture_corrections: tuple[str, ...] = ()
    sound_corrections: tuple[str, ...] = ()
    unheard: str = ""
    aspect: Fraction = SQUARE
    uneven: Uneven | None = None

    def is_uneven(self, frames: int) -> bool:
        """Whether its first so many frames are not shown equally long."""
        return self.uneven is not None and self.uneven.steady < frames

    def is_shaped_as(self, other: MediaInfo) -> bool:
        """Whether its pictures have the shape of another file's, up to a pixel of the smaller one."""
        across = (self.width or 0) * (other.height or 0)
        down = (self.height or 0) * (other.width or 0)
        return abs(across - down) <= max(self.width or 0, self.height or 0, other.width or 0, other.height or 0)
