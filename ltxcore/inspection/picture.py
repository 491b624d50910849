"""A picture of what the model sees: every token of some samples at its place in time and in the frame, colored by its
role.

The picture is drawn from top to bottom, and cut off below the last line; if the last line is below the canvas, it is drawn again on a larger
one.
"""

from __future__ import annotations

import functools
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.errors import DataError
from ltxcore.files import write_whole
from ltxcore.inspection.counts import Count, Lane, Slot, Tokens, appended_lanes, counts_of, lane_of, tokens_of
from ltxcore.inspection.seen import Seen
from ltxcore.scale import Scale

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

DRAWN = 4
"""The largest number of samples in the picture."""

LANE, STRIP = 44, 8
"""The height of a lane, and of the strip below the lane that shows which tokens count in the loss."""

FRAME, WIDEST, GAP = 120, 260, 14
"""The largest height and the largest width of a frame, and the gap between two frames."""

WORDS = 86
"""The width of the text below a frame."""

LEAST = 5
"""The smallest size, in pixels, of cells that are separated by white lines."""

TICKS = 9
"""The approximate number of labels on an axis."""

USUAL_HEIGHT = 12_000
"""The height of the canvas, in pixels, that suffices for nearly all pictures."""

GENERATED: Colour = (47, 109, 181)
GIVEN: Colour = (214, 105, 0)
HARDLY_GIVEN: Colour = (255, 232, 196)
MOSTLY_GIVEN: Colour = (245, 166, 68)
APPENDED: Colour = (46, 158, 107)
FROZEN: Colour = (150, 150, 150)
COUNTED: Colour = (20, 20, 20)

KEY: tuple[tuple[str, Colour, Colour], ...] = (
    ("generated", GENERATED, GENERATED),
    ("given in part, little to much", HARDLY_GIVEN, MOSTLY_GIVEN),
    ("given", GIVEN, GIVEN),
    ("appended", APPENDED, APPENDED),
    ("frozen", FROZEN, FROZEN),
)
"""The meaning of each color or range of colors."""


def write_picture(path: Path, seen: Sequence[Seen], title: str) -> None:
    """Write a PNG of the first samples.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        write_whole(path, picture(seen, title))
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another file.") from error


def picture(seen: Sequence[Seen], title: str) -> bytes:
    """Return a PNG of the first samples: the first sample of every micro-batch, then the second of every micro-batch, and so on."""
    every = [(index, each) for each in seen for index in range(len(each.micro_batch.names))]
    chosen = sorted(every, key=lambda pair: pair[0])[:DRAWN]
    canvas = Canvas.of_height(USUAL_HEIGHT)
    _draw(canvas, title, chosen, len(every))
    if canvas.y > USUAL_HEIGHT:
        canvas = Canvas.of_height(canvas.y + MARGIN)
        _draw(canvas, title, chosen, len(every))
    return canvas.png()


def _draw(canvas: Canvas, title: str, chosen: Sequence[tuple[int, Seen]], samples: int) -> None:
    canvas.text(MARGIN, canvas.y, title, size=30)
    if samples > len(chosen):
        canvas.text(RIGHT, canvas.y + 10, f"{len(chosen)} of {samples} samples", colour=FAINT, anchor="ra")
    canvas.y += 56
    _draw_key(canvas)
    for index, each in chosen:
        _draw_sample(canvas, each, index)


def _draw_key(canvas: Canvas) -> None:
    x = float(MARGIN)
    for name, low, high in KEY:
        for column in range(30):
            canvas.box(x + column, canvas.y, x + column + 1, canvas.y + 22, _mixed(low, high, column / 29))
        x = canvas.text(x + 38, canvas.y, name) + 32
    canvas.box(x, canvas.y + 8, x + 30, canvas.y + 8 + STRIP, COUNTED)
    canvas.text(x + 38, canvas.y, "counts in the loss; a thicker line counts more")
    canvas.y += 34
    said = "Noise: the timestep is sigma for generated tokens, (1 - a) x sigma for tokens given by an amount a, and 0 for all others."
    canvas.text(MARGIN, canvas.y, said, size=17, colour=FAINT)
    canvas.y += 38


def _draw_sample(canvas: Canvas, seen: Seen, index: int) -> None:
    name = seen.micro_batch.names[index]
    canvas.line(MARGIN, canvas.y, RIGHT, canvas.y)
    end = canvas.text(MARGIN, canvas.y + 14, name, size=25)
    part = f", micro-batch {seen.part} of {seen.parts}" if seen.parts > 1 else ""
    canvas.text(end + 18, canvas.y + 20, f"step {seen.step}{part}", size=18, colour=FAINT)
    canvas.y += 60
    told = {count.modality: count for count in counts_of(seen, index)}
    lanes = {modality: _lanes(seen, modality, index) for modality, given in seen.inputs.items() if not given.is_absent}
    spans = [lane.seconds for each in lanes.values() for _, lane in each]
    start, last = min(start for start, _ in spans), max(end for _, end in spans)
    time = Scale(start, last if last > start else start + 1.0, LEFT, RIGHT)
    for modality, each in lanes.items():
        canvas.text(LEFT, canvas.y, sentence(told[modality]), size=18, colour=FAINT)
        canvas.y += 28
        for title, lane in each:
            _draw_lane(canvas, time, title, lane, title != modality)
    _draw_axis(canvas, time)
    for modality, each in lanes.items():
        for title, lane in each:
            _draw_frames(canvas, lane, title, title != modality)
    canvas.y += 14


def _lanes(seen: Seen, modality: str, index: int) -> list[tuple[str, Lane]]:
    """Return the named lanes of the target and of each medium that was appended to it."""
    tokens = tokens_of(seen.inputs[modality], index)
    appended = appended_lanes(tokens.appended)
    names = ["appended"] if len(appended) == 1 else [f"appended {number}" for number in range(1, len(appended) + 1)]
    return [(modality, lane_of(tokens.target)), *zip(names, appended, strict=True)]


def _draw_lane(canvas: Canvas, time: Scale, title: str, lane: Lane, appended: bool) -> None:
    top = canvas.y
    canvas.text(LEFT - 16, top + LANE / 2, title, anchor="rm")
    for slot in lane.slots:
        left, right = time(slot.start), time(slot.end)
        right -= 1 if right - left >= 4 else 0
        bottom = float(top + LANE)
        # The tokens that are given most are drawn lowest.
        order = sorted(zip(slot.tokens.given.tolist(), _colours(slot.tokens, appended), strict=True), key=lambda pair: -pair[0])
        for colour, count in Counter(colour for _, colour in order).items():
            height = count / len(order) * LANE
            canvas.box(left, bottom - height, right, bottom, colour)
            bottom -= height
        counted = float(slot.tokens.counted.float().mean())
        if counted:
            canvas.box(left, top + LANE + 3, right, top + LANE + 3 + max(2.0, STRIP * counted), COUNTED)
    canvas.y += LANE + STRIP + 16


def _draw_axis(canvas: Canvas, time: Scale) -> None:
    """Draw an axis in seconds below everything drawn so far."""
    top = canvas.y
    canvas.line(LEFT, top, RIGHT, top, FAINT)
    digits = max(0, -math.floor(math.log10(time.step(TICKS)) + 1e-9))
    for seconds in time.ticks(TICKS):
        x = time(seconds)
        canvas.line(x, top, x, top + 6, FAINT)
        canvas.text(x, top + 9, f"{seconds:.{digits}f}", size=17, colour=FAINT, anchor="ma")
    canvas.text(LEFT - 28, top + 9, "seconds", size=17, colour=FAINT, anchor="ra")
    canvas.y += 48


def _draw_frames(canvas: Canvas, lane: Lane, title: str, appended: bool) -> None:
    """Draw latent frames of a video side by side: all frames, or as many as fit, evenly spaced and including the first and the last."""
    if lane.size is None:
        return
    rows, columns = lane.size
    scale = min(FRAME / rows, WIDEST / columns)
    width, height = columns * scale, rows * scale
    pitch = max(width, WORDS) + GAP
    chosen = _evenly(lane.slots, int((RIGHT - LEFT + GAP) // pitch))
    canvas.text(LEFT - 16, canvas.y, title, anchor="ra")
    canvas.text(LEFT - 16, canvas.y + 27, f"{columns:.0f} x {rows:.0f} px", size=16, colour=FAINT, anchor="ra")
    if len(chosen) < len(lane.slots):
        canvas.text(LEFT - 16, canvas.y + 49, f"{len(chosen)} of {len(lane.slots)}", size=16, colour=FAINT, anchor="ra")
    for place, slot in enumerate(chosen):
        x, y = LEFT + place * pitch, canvas.y
        canvas.box(x, y, x + width, y + height, LINE)
        for (top, left, bottom, right), colour in zip(slot.boxes, _colours(slot.tokens, appended), strict=True):
            gap = 1 if min(right - left, bottom - top) * scale >= LEAST else 0
            canvas.box(x + left * scale, y + top * scale, x + right * scale - gap, y + bottom * scale - gap, colour)
        canvas.text(x, y + height + 4, f"{slot.start:.2f} to {slot.end:.2f} s", size=14, colour=FAINT)
    canvas.y += max(round(height), 66) + 34


def _evenly(slots: Sequence[Slot], most: int) -> Sequence[Slot]:
    """Return all slots or, if there are more than `most` (at least two), evenly spaced slots that include the first and the last."""
    if len(slots) <= most:
        return slots
    return [slots[round(place * (len(slots) - 1) / (most - 1))] for place in range(most)]


def _colours(tokens: Tokens, appended: bool) -> list[Colour]:
    """Return the color of each token."""
    if appended or not tokens.is_generated:
        return [APPENDED if appended else FROZEN] * len(tokens.given)
    return [
        GENERATED if amount <= 0 else GIVEN if amount >= 1 else _mixed(HARDLY_GIVEN, MOSTLY_GIVEN, amount)
        for amount in tokens.given.tolist()
    ]


def _mixed(low: Colour, high: Colour, amount: float) -> Colour:
    """Mix two colors; an `amount` of 0 gives the first color, and 1 gives the second."""
    r, g, b = (round(start + amount * (end - start)) for start, end in zip(low, high, strict=True))
    return r, g, b


def sentence(count: Count) -> str:
    """Describe a modality in one line."""
    numbers = ((count.generated, "generated"), (count.given, "given"), (count.partly, "given in part"), (count.appended, "appended"))
    parts = [f"{number} {what if count.is_generated or what == 'appended' else 'frozen'}" for number, what in numbers if number]
    marked = f"; marked: {count.marked}" if count.marked else ""
    told = f"{', '.join(parts)}{marked}; in the loss: {count.in_loss}; sigma: {count.sigma:.3f}"
    applied = ", ".join(key.rpartition(".")[2] for key in count.conditions)
    return f"Tokens: {told}" + (f"; conditions: {applied}" if applied else "")


Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
INK: Colour = (34, 34, 34)
FAINT: Colour = (110, 110, 110)
LINE: Colour = (210, 210, 210)

WIDTH = 1600
MARGIN = 40
LEFT, RIGHT = MARGIN + 130, WIDTH - MARGIN
"""The left and right ends of everything that is drawn to scale; names are written to the left of it."""


@functools.cache
def font(size: int) -> FreeTypeFont | ImageFont:
    """Return the font that comes with Pillow, the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


@attrs.define(eq=False)
class Canvas:
    """A white picture to draw on.

    Attributes:
        image: the image that is drawn on.
        pen: the pen that draws on the image.
        y: the height at which the next element begins.
    """

    image: Image
    pen: ImageDraw
    y: int = MARGIN

    @classmethod
    def of_height(cls, height: int) -> Canvas:
        """Return an empty canvas of at most this height."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (WIDTH, height), WHITE)
        return cls(image, ImageDraw.Draw(image))

    def text(self, x: float, y: float, said: str, *, size: int = 20, colour: Colour = INK, anchor: str = "la") -> float:
        """Write text, and return the right end of the text. The anchor is one of Pillow's: "la" is left and top, "ra" is right
        and top, and "ma" is middle and top.
        """
        self.pen.text((x, y), said, font=font(size), fill=colour, anchor=anchor)
        return x + float(font(size).getlength(said))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Draw a filled box, at least one pixel wide and high."""
        x, y = round(left), round(top)
        self.pen.rectangle((x, y, max(x, round(right) - 1), max(y, round(bottom) - 1)), fill=colour)

    def line(self, left: float, top: float, right: float, bottom: float, colour: Colour = LINE) -> None:
        """Draw a thin line."""
        self.pen.line((left, top, right, bottom), fill=colour, width=1)

    def png(self) -> bytes:
        """Return the drawn part of the picture as PNG."""
        file = io.BytesIO()
        self.image.crop((0, 0, WIDTH, min(self.y + MARGIN // 2, self.image.height))).save(file, "PNG", optimize=True)
        return file.getvalue()
