"""Colors, as they are written in a run file."""

from __future__ import annotations

import string

Color = tuple[int, int, int]
"""A color as red, green and blue, 0 to 255 each."""

BLACK: Color = (0, 0, 0)
NAMED: dict[str, Color] = {"black": BLACK, "white": (255, 255, 255), "gray": (128, 128, 128), "grey": (128, 128, 128)}
REMEDY = f'Write it as "#RRGGBB", such as "#00FF00", or as {", ".join(NAMED)}.'


def parse_color(text: str) -> Color | None:
    """Return the color that a text names, or None."""
    text = text.strip().lower()
    digits = text.removeprefix("#")
    if text in NAMED:
        return NAMED[text]
    if text == digits or len(digits) not in (3, 6) or not set(digits) <= set(string.hexdigits):
        return None
    red, green, blue = (digits[at : at + 2] for at in (0, 2, 4)) if len(digits) == 6 else (2 * digit for digit in digits)
    return int(red, 16), int(green, 16), int(blue, 16)
