"""What becomes of a token, as a colour."""

from __future__ import annotations

from collections import Counter

from ltxcore.inspection.counts import Tokens

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
INK: Colour = (34, 34, 34)
FAINT: Colour = (110, 110, 110)
LINE: Colour = (210, 210, 210)

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
"""What the colours mean, each from one shade to another."""


def mixed(low: Colour, high: Colour, amount: float) -> Colour:
    """A colour between two: 0 is the first, 1 the second."""
    r, g, b = (round(start + amount * (end - start)) for start, end in zip(low, high, strict=True))
    return r, g, b


def colours_of(tokens: Tokens, appended: bool) -> list[Colour]:
    """The colour of each token."""
    if appended or not tokens.is_generated:
        return [APPENDED if appended else FROZEN] * len(tokens.given)
    return [_of_amount(amount) for amount in tokens.given.tolist()]


def _of_amount(amount: float) -> Colour:
    if amount <= 0:
        return GENERATED
    return GIVEN if amount >= 1 else mixed(HARDLY_GIVEN, MOSTLY_GIVEN, amount)


def shares(tokens: Tokens, appended: bool) -> list[tuple[Colour, float]]:
    """How much of some tokens has which colour, what is given most first; the shares add up to 1."""
    order = sorted(range(len(tokens.given)), key=lambda index: -float(tokens.given[index]))
    colours = colours_of(tokens, appended)
    number = Counter(colours[index] for index in order)
    return [(colour, count / len(order)) for colour, count in number.items()]
