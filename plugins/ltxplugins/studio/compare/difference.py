"""What differs between two run files, line by line."""

from __future__ import annotations

import difflib
from typing import Literal

import attrs

AROUND = 2
"""The number of equal lines that are shown around a difference."""

Kind = Literal["same", "first", "second", "gap"]


@attrs.frozen
class Line:
    """A line of the difference: whether it is in both files, in the first or the second alone, or stands for equal lines that are left out.

    Attributes:
        kind: which of the two files have the line.
        text: the line.
        first: the line's number in the first file; 0 if it is not in it.
        second: the line's number in the second file; 0 if it is not in it.
    """

    kind: Kind
    text: str
    first: int = 0
    second: int = 0


def difference(one: str, other: str) -> list[Line]:
    """Return the lines that differ between two texts, with a few equal lines around them; empty if the texts are equal."""
    first, second = one.splitlines(), other.splitlines()
    found: list[Line] = []
    for group in difflib.SequenceMatcher(None, first, second, autojunk=False).get_grouped_opcodes(AROUND):
        if found or group[0][1] > 0 or group[0][3] > 0:
            found.append(Line("gap", ""))
        for tag, a, b, c, d in group:
            if tag == "equal":
                found += [Line("same", first[a + index], a + index + 1, c + index + 1) for index in range(b - a)]
                continue
            found += [Line("first", first[index], index + 1, 0) for index in range(a, b)]
            found += [Line("second", second[index], 0, index + 1) for index in range(c, d)]
    return found
