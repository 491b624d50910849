"""A picture that is drawn from top to bottom and cut off below the last line, and its colours."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
INK: Colour = (34, 34, 34)
FAINT: Colour = (110, 110, 110)
LINE: Colour = (210, 210, 210)

WIDTH = 1600
MARGIN = 40
LEFT, RIGHT = MARGIN + 130, WIDTH - MARGIN
"""Between them lies what has a scale; names stand to the left."""


@functools.cache
def font(size: int) -> FreeTypeFont | ImageFont:
    """The font that comes with Pillow: the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


@attrs.define(eq=False)
class Canvas:
    """A white picture.

    Attributes:
        image: what is drawn on.
        pen: draws on it.
        y: where the next thing begins.
    """

    image: Image
    pen: ImageDraw
    y: int = MARGIN

    @classmethod
    def of_height(cls, height: int) -> Canvas:
        """A canvas of at most this height."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (WIDTH, height), WHITE)
        return cls(image, ImageDraw.Draw(image))

    def text(self, x: float, y: float, said: str, *, size: int = 20, colour: Colour = INK, anchor: str = "la") -> float:
        """Write, and say where the text ends. The anchor is Pillow's: "la" is left and top, "ra" right and top, "ma" middle and top."""
        self.pen.text((x, y), said, font=font(size), fill=colour, anchor=anchor)
        return x + float(font(size).getlength(said))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled box, at least one pixel wide and high."""
        x, y = round(left), round(top)
        self.pen.rectangle((x, y, max(x, round(right) - 1), max(y, round(bottom) - 1)), fill=colour)

    def line(self, left: float, top: float, right: float, bottom: float, colour: Colour = LINE) -> None:
        """A thin line."""
        self.pen.line((left, top, right, bottom), fill=colour, width=1)

    def png(self) -> bytes:
        """The picture, down to where it was drawn on."""
        file = io.BytesIO()
        self.image.crop((0, 0, WIDTH, min(self.y + MARGIN // 2, self.image.height))).save(file, "PNG", optimize=True)
        return file.getvalue()
