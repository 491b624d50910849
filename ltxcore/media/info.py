"""The description of a media file, as a record that does not need torch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.media.aspect import SQUARE
from ltxcore.media.times import Uneven


@attrs.frozen
class MediaInfo:
    """The description of a media file, found without decoding the whole file.

    Attributes:
        path: the path of the file.
        frames: the number of frames that the video stream shows; None without video.
        height, width: the size of the stored pictures in pixels, before they are turned upright and stretched; None without video.
        rate: the exact frames per second, an average if the frames are uneven; None without video or for an image.
        duration: the seconds of video, or of audio if there is no video; None for an image, or if unknown.
        sound_rate: the samples per second; None without audio that can be decoded.
        channels: the number of audio channels; None without audio that can be decoded.
        is_image: whether the file is a single picture.
        picture_corrections: the corrections that apply to the pictures, as sorted names in `encode.outdated.CORRECTIONS`.
        sound_corrections: the corrections that apply to the audio, as sorted names in `encode.outdated.CORRECTIONS`.
        unheard: the reason why the audio cannot be decoded; "" if it can be, or there is none.
        aspect: the width of a stored pixel divided by its height.
        uneven: the properties of the frames at a constant rate; None if all frames are shown equally long, or the times are unknown.
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
        """Return whether the pictures have the same aspect ratio as those of another file, to within a pixel of the smaller pictures."""
        across = (self.width or 0) * (other.height or 0)
        down = (self.height or 0) * (other.width or 0)
        return abs(across - down) <= max(self.width or 0, self.height or 0, other.width or 0, other.height or 0)
