"""Draw a contact sheet as a page of its own: each size of samples has a section, with a card for each sample that is shown."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import __version__
from ltxplugins.tools.report.markup import Markup, joined, tag

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

STYLE = Path(__file__).parent / "sheet.css"

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A security policy that allows no script and nothing from elsewhere, whatever a caption or a file name contains."""

ORIGINAL, DECODED = (440, 320), (260, 320)
"""The largest width and height, in pixels, of an original and of a decoded frame: twice as large as on the page, for screens with
small pixels.
"""

PALE = 0.7
"""The share of white that is mixed into the part of an original that is not used."""

CROP = (214, 105, 0)
"""The color of the frame around the part that is used."""

COLUMNS, HEIGHT = 400, 40
"""The columns and the height of a waveform."""

SILENT = 1e-6
"""The amplitude up to which audio counts as silent."""


@attrs.frozen(eq=False)
class Card:
    """A sample to show.

    Attributes:
        name: the sample's name.
        caption: its caption; None if its dataset is not known.
        frames: the decoded frames `[F, H, W, 3]`; None for audio alone.
        rate: the frames per second.
        original: the frame of the clip that the sample begins with, `[H, W, 3]`; None if it is not known.
        seconds: the seconds of the whole clip; 0 if they are not known.
        samples: the decoded audio `[channels, samples]`; None if there is none.
        sound_rate: the audio samples per second.
    """

    name: str
    caption: str | None
    frames: Tensor | None
    rate: float
    original: Tensor | None
    seconds: float
    samples: Tensor | None
    sound_rate: int

    @property
    def used_seconds(self) -> float:
        """The seconds of the sample; 0 for an image."""
        if self.frames is not None:
            return len(self.frames) / self.rate if len(self.frames) > 1 else 0.0
        return 0.0 if self.samples is None else self.samples.shape[1] / self.sound_rate


@attrs.frozen(eq=False)
class Section:
    """Some samples of one size, such as "768x512x89", or "" for audio alone. `count` is the number of all samples of this size."""

    size: str
    count: int
    cards: tuple[Card, ...]

    @property
    def title(self) -> str:
        """The size in words."""
        if not self.size:
            return "Audio without video"
        width, height, frames = self.size.split("x")
        return f"{width} x {height}, {frames} frame{'' if frames == '1' else 's'}"


def draw(root: Path, sections: Sequence[Section]) -> str:
    """Return a contact sheet as HTML that needs no other file."""
    shown, total = sum(len(section.cards) for section in sections), sum(section.count for section in sections)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"ltx {__version__}"),
        tag("title", f"{root.name} · ltx"),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    header = tag("header", tag("h1", root.name), tag("p", f"{shown:,} of {total:,} samples, as they were encoded in {root}"))
    return f"<!doctype html>\n{tag('html', head, tag('body', header, *map(_section, sections)), lang='en')}\n"


def _section(section: Section) -> Markup:
    count = f"{section.count:,} sample{'' if section.count == 1 else 's'}"
    title = tag("h2", section.title, tag("span", count))
    return tag("section", title, tag("div", *map(_card, section.cards), class_="cards"))


def _card(card: Card) -> Markup:
    said = card.caption if card.caption is None else card.caption.strip()
    missing = "The dataset with the captions was not found; --data names it." if said is None else "no caption"
    return tag(
        "article",
        tag("h3", card.name),
        None if card.frames is None else tag("div", *_pictures(card, card.frames), class_="pictures"),
        _sound(card),
        tag("p", said, class_="caption", dir="auto") if said else tag("p", missing, class_="none"),
    )


def _pictures(card: Card, frames: Tensor) -> list[Markup]:
    """Return the original, with a frame around the part that is used, and some decoded frames."""
    found = [] if card.original is None else [_original(card.original, *frames.shape[1:3])]
    last = len(frames) - 1
    for index in sorted({0, last // 2, last}):
        found.append(_figure(_scaled(frames[index], DECODED), f"{index / card.rate:.2f} s" if last else "decoded"))
    return found


def _original(frame: Tensor, to_height: int, to_width: int) -> Markup:
    from PIL import Image, ImageDraw

    height, width = frame.shape[:2]
    picture = _scaled(frame, ORIGINAL)
    scale = picture.width / width
    box = kept(height, width, to_height, to_width)
    left, top, right, bottom = (round(edge * scale) for edge in box)
    drawn = Image.blend(picture, Image.new("RGB", picture.size, "white"), PALE)
    drawn.paste(picture.crop((left, top, right, bottom)), (left, top))
    ImageDraw.Draw(drawn).rectangle((left, top, right - 1, bottom - 1), outline=CROP, width=3)
    share = (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
    used = "all" if share > 0.995 else f"{100 * share:.0f} %"
    return _figure(drawn, f"original, {width} x {height}: {used} used", class_="original")


def kept(height: int, width: int, to_height: int, to_width: int) -> tuple[float, float, float, float]:
    """Return the part of a frame that is used if the frame is resized to cover a bucket and cropped at the center: left, top, right and
    bottom, in pixels of the frame.

    Source: docs/explanation/arithmetic.md#cover-and-crop
    """
    across, down = min(width, height * to_width / to_height), min(height, width * to_height / to_width)
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


def _scaled(frame: Tensor, most: tuple[int, int]) -> Image:
    from PIL import Image

    picture = Image.fromarray(frame.numpy())
    scale = min(most[0] / picture.width, most[1] / picture.height)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BICUBIC)


def _figure(picture: Image, said: str, **attributes: object) -> Markup:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return tag("figure", tag("img", src=source, alt=said, width=picture.width // 2), tag("figcaption", said), **attributes)


def _sound(card: Card) -> Markup:
    """Return the waveform of a sample, scaled so that its loudest moment has the full height, and the loudness of this moment."""
    seconds = card.used_seconds
    lasts = f"{seconds:.2f}{f' of {card.seconds:.2f}' if card.seconds else ''} s" if seconds else "a still image"
    if card.samples is None:
        return tag("p", f"{lasts}, no audio", class_="none")
    peaks = card.samples.abs().amax(dim=0)
    loudest, count = float(peaks.max()), min(COLUMNS, len(peaks))
    heights = [float(part.max()) / max(loudest, SILENT) * HEIGHT / 2 for part in peaks.tensor_split(count)]
    edges = [f"{index},{HEIGHT / 2 - height:.1f}" for index, height in enumerate(heights)]
    edges += [f"{index},{HEIGHT / 2 + height:.1f}" for index, height in reversed(list(enumerate(heights)))]
    wave = tag("path", d=f"M{' L'.join(edges)} Z")
    said = f"peak at {20 * math.log10(loudest):.0f} dBFS" if loudest > SILENT else "silent"
    drawn = tag("svg", wave, viewBox=f"0 0 {count - 1} {HEIGHT}", preserveAspectRatio="none", role="img", aria_label="waveform")
    return joined([drawn, tag("p", f"{lasts}, {said}", class_="measure")])
