"""What readers set right that version 0.1.0 got wrong.

A file is read as it always was unless one of these applies to it. Each is named in what a sample is made of, so that the samples of such files, and
only those, are stale in sets that 0.1.0 encoded, and the reason can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CORRECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "alpha": "transparent parts show a background, not the colour that is stored under them",
        "animation": "all pictures of an animated AVIF or HEIC are read, not the one that stands for them",
        "hdr": "its HDR pictures are converted to BT.709",
        "shown_rate": "the frame rate is that of the frames that are shown, not the one that the container tells",
        "sound_in_time": "each part of its sound is where its time stamp says, counted from the first picture that is shown",
        "square_pixels": "pixels that are wider or narrower than high are stretched to square ones",
        "turned": "the picture is turned as its metadata say",
    }
)
"""By name, what is done now that was not done before, as the end of a sentence: "the picture is turned as its EXIF orientation says"."""


def told(corrections: tuple[str, ...]) -> str:
    """What was set right, in words."""
    return "; ".join(CORRECTIONS[name] for name in corrections)
