"""Decoded frames as pixels: RGB bytes, resized on the way where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

Resize = Callable[[int, int], tuple[int, int]]
"""From the height and width of a picture as it is shown to those that it is wanted in; all in pixels."""

_RGB = "rgb24"
_RGB_BY_PLANES = "gbrp"
"""What FFmpeg resizes to twice as fast as to packed RGB, each pixel with a colour of its own; packing it afterwards is quick."""


@attrs.define(eq=False)
class Pictures:
    """Turns the frames of one stream into pixels. The tables of a conversion are made once, and frames of one size share them."""

    _resizer: Any = attrs.field(init=False)
    _converter: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._resizer, self._converter = VideoReformatter(), VideoReformatter()

    def pixels(self, frame: Any, size: tuple[int, int]) -> Tensor:
        """A decoded frame as `[*size, 3]` uint8, a view of the frame that keeps it alive. A resize is bicubic, and antialiased where it makes smaller.

        Args:
            frame: of PyAV.
            size: height and width of the result, in pixels.
        """
        if size != (frame.height, frame.width):
            frame = self._resizer.reformat(frame, size[1], size[0], _RGB_BY_PLANES, interpolation=_bicubic(), threads=1)
        rgb = self._converter.reformat(frame, format=_RGB, threads=1)
        plane = rgb.planes[0]
        rows = torch.frombuffer(plane, dtype=torch.uint8).unflatten(0, (-1, plane.line_size))  # each may end in padding
        return rows[: size[0], : 3 * size[1]].unflatten(1, (-1, 3))


def _bicubic() -> Any:
    """FFmpeg's bicubic resize, which also reads every colour of a picture that is RGB already, not every other one."""
    from av.video.reformatter import Interpolation

    return Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP
