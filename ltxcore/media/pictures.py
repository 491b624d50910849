"""The conversion of decoded frames to RGB bytes, with a resize if one is requested."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from ltxcore.config.colors import BLACK, Color
from ltxcore.media.hdr import Signal
from ltxcore.media.hdr_frames import HdrPictures, Tags, signal_of

Resize = Callable[[int, int], tuple[int, int]]
"""A function from the height and width of a picture as shown to the wanted height and width, all in pixels."""

Hdr = Literal["bt709", "keep"]
"""The treatment of HDR pictures. They are converted to BT.709, or their numbers are kept as if they were BT.709, which looks flat and
pale.
"""

_RGB = "rgb24"
_RGB_WITH_ALPHA = "rgba"
_RGB_BY_PLANES = "gbrp"
"""The planar RGB format, in which pixels do not share color values. FFmpeg resizes to this format twice as fast as to packed RGB, and
packing the result is quick.
"""


@attrs.frozen
class Rendering:
    """The user's choices of how decoded frames become RGB.

    Attributes:
        alpha_color: the color that is shown behind transparent pixels.
        hdr: how HDR pictures are converted.
    """

    alpha_color: Color = BLACK
    hdr: Hdr = "bt709"

    def corrected(self, corrections: Collection[str]) -> tuple[str, ...]:
        """Return which of these corrections of a file's pictures are applied.

        All are applied, except that HDR pictures are read as by version 0.1.0 if HDR is kept.
        """
        return tuple(name for name in corrections if name != "hdr" or self.hdr == "bt709")

    def told(self, corrections: Collection[str]) -> dict[str, str]:
        """Return the choices that differ from the defaults, by key, if they affect a file to which these corrections apply."""
        chosen = self.alpha_color != BLACK and "alpha" in corrections
        return {"alpha_color": "#{:02X}{:02X}{:02X}".format(*self.alpha_color)} if chosen else {}


@attrs.define(eq=False)
class Pictures:
    """A converter of a stream's frames to pixels. The tables of a conversion are made once and shared by frames of the same size.

    Attributes:
        rendering: the user's choices.
        tags: the stream's tags, for frames that lack tags.
        where: the file, for messages.
    """

    rendering: Rendering = attrs.field(factory=Rendering)
    tags: Tags = attrs.field(factory=Tags)
    where: str = ""
    _hdr_pictures: HdrPictures = attrs.field(factory=HdrPictures, init=False)
    _resizer: Any = attrs.field(init=False)
    _converter: Any = attrs.field(init=False)
    _to_alpha: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._resizer, self._converter, self._to_alpha = VideoReformatter(), VideoReformatter(), VideoReformatter()

    def pixels(self, frame: Any, size: tuple[int, int]) -> Tensor:
        """Convert a decoded frame to `[*size, 3]` uint8, as a view that keeps its memory alive. Resizing is bicubic, and antialiased if
        the frame becomes smaller.

        Args:
            frame: a frame of PyAV.
            size: the height and width of the result, in pixels.

        Raises:
            DataError: the frame stores its colors in a way that cannot be read.
        """
        signal = signal_of(frame, self.tags, self.where)
        signal = signal if self.rendering.hdr == "bt709" else None
        # Transparency comes first, on the stored pixels, so that a resize mixes in no invisible colors.
        opaque = self._opaque(frame, signal)
        if signal is not None and opaque is frame:
            return self._hdr_pictures.pixels(frame, size, signal)
        frame = opaque
        if size != (frame.height, frame.width):
            frame = self._resizer.reformat(frame, size[1], size[0], _RGB_BY_PLANES, interpolation=_bicubic(), threads=1)
        return _rows(self._converter.reformat(frame, format=_RGB, threads=1), 3)

    def _opaque(self, frame: Any, signal: Signal | None) -> Any:
        """Put the background behind the transparent parts of a frame, and convert HDR to BT.709. A fully opaque frame is returned
        unchanged.
        """
        if not may_be_transparent(frame.format.name):
            return frame
        import av
        import numpy as np

        colors = _rows(self._to_alpha.reformat(frame, format=_RGB_WITH_ALPHA, threads=1), 4).numpy()
        if (colors[..., 3] == _OPAQUE).all():
            return frame
        if signal is not None:
            colors = np.dstack([self._hdr_pictures.pixels(frame, (frame.height, frame.width), signal).numpy(), colors[..., 3]])
        return av.VideoFrame.from_ndarray(_blended(colors, self.rendering.alpha_color), format=_RGB)


_OPAQUE = 255
_BAND = 32


def _blended(colors: Any, background: Color) -> Any:
    """Blend encoded colors and alpha `[H, W, 4]` uint8 over a background to `[H, W, 3]` uint8, rounded to the nearest.

    A few rows are processed at a time, so that intermediate values stay in the processor's cache.
    """
    import numpy as np

    seen = np.empty((*colors.shape[:2], 3), np.uint8)
    for top in range(0, colors.shape[0], _BAND):
        band = colors[top : top + _BAND]
        cover = band[..., 3].astype(np.uint16)
        behind = _OPAQUE - cover
        for channel in range(3):
            # This divides by 255 and rounds to the nearest; it is exact for all products of two bytes.
            value = band[..., channel] * cover + behind * np.uint16(background[channel]) + np.uint16(128)
            seen[top : top + _BAND, :, channel] = (value + (value >> 8)) >> 8
    return seen


def is_transparent(frame: Any) -> bool:
    """Return whether any pixel of a decoded frame is not opaque."""
    return may_be_transparent(frame.format.name) and bool((_rows(frame.reformat(format=_RGB_WITH_ALPHA), 4)[..., 3] != _OPAQUE).any())


@cache
def may_be_transparent(format_name: str) -> bool:
    """Return whether a pixel format has alpha, as a component or in the colors of a palette."""
    from av import VideoFormat

    found = VideoFormat(format_name)
    return bool(found.has_palette) or any(component.is_alpha for component in found.components)


def _rows(frame: Any, channels: int) -> Tensor:
    """Return a view `[H, W, channels]` of the pixels of a packed frame with one byte per channel."""
    plane = frame.planes[0]
    rows = torch.frombuffer(plane, dtype=torch.uint8).unflatten(0, (-1, plane.line_size))  # each row may end in padding
    return rows[: frame.height, : channels * frame.width].unflatten(1, (-1, channels))


def _bicubic() -> Any:
    """Return FFmpeg's flags for a bicubic resize that reads the color of every pixel, rather than of every other one, even in RGB pictures."""
    from av.video.reformatter import Interpolation

    return Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP
