"""The parts of captions: the columns of a dataset whose texts are joined, such as those about the picture and those about the sound."""

from __future__ import annotations

import re

import attrs

COLUMN = re.compile(r"\{([^{}]*)\}")
"""A pattern for a column's name between the words of a part."""


@attrs.frozen
class Part:
    """A part of captions: the text of a column between words that stay the same."""

    column: str
    before: str = ""
    after: str = ""

    @classmethod
    def parse(cls, text: str) -> Part:
        """Parse a part: the name of a column, or words with the name of one column in braces.

        Raises:
            ValueError: the text names no column, or more than one.
        """
        found = COLUMN.findall(text)
        if not found and not set("{}") & set(text):
            return cls(text.strip())
        before, column, after = COLUMN.split(text) if len(found) == 1 else ("", "", "")
        if not column.strip() or set("{}") & set(before + after):
            raise ValueError(text)
        return cls(column.strip(), before.lstrip(), after.rstrip())

    def around(self, text: str) -> str:
        """Return the part for the text of a cell; "" for an empty text."""
        return f"{self.before}{text.strip()}{self.after}" if text.strip() else ""


def parts_of(text: str) -> list[Part]:
    """Return the parts of captions, which are separated by ";".

    Raises:
        ValueError: one of the parts names no column, or more than one; or there are none.
    """
    parts = [Part.parse(part) for part in text.split(";") if part.strip()]
    if not parts:
        raise ValueError(text)
    return parts
