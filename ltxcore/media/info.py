"""The description of a media file, as a record that needs no torch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.media.aspect import SQUARE
from ltxcore.media.times import Uneven


@attrs.frozen
class MediaInfo:
    """The description of a media file, found without decoding all of it.

    Attributes:
        path: the path of the file.
        frames: the number of frames that its video stream shows; None without video.
        height, width: the size of the stored pictures in pixels, before they are turned upright and stretched; None
            without video.
        rate: the exact frames per second, an average if they are uneven; None without video, and for an image.
        duration: the seconds of its video, or of its audio if it has no video; None for an image, and if not known.
        sound_rate: the samples per second; None without audio that can be decoded.
        channels: the number of audio channels; None without audio that can be decoded.
        is_image: whether it is a single picture.
        picture_corrections: the corrections of its pictures that 0.1.0 lacked, by their names in
            `encode.outdated.CORRECTIONS`, sorted.
        sound_corrections: the corrections of its audio, likewise.
        unheard: the reason why its audio cannot be decoded; "" if it can, or there is none.
        aspect: the width of a stored pixel divided by its height.
        uneven: what its frames become at a constant rate; None if they are shown equally long, or it is not known when
            they are shown.
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
        """Return whether the file's first `frames` frames have a variable frame rate."""
        return self.uneven is not None and self.uneven.steady < frames

    def is_shaped_as(self, other: MediaInfo) -> bool:
        """Return whether the pictures have the aspect ratio of another file's, to within a pixel of the smaller one."""
        across = (self.width or 0) * (other.height or 0)
        down = (self.height or 0) * (other.width or 0)
        return abs(across - down) <= max(self.width or 0, self.height or 0, other.width or 0, other.height or 0)
