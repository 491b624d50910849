"""Functions for the cells of a dataset's rows."""

from __future__ import annotations

import json
import re
from typing import Any

from ltxcore.dataset.columns import is_inline
from ltxcore.errors import DataError, Problem

SHOWN = 200
"""The maximum number of letters of a cell that a message repeats."""

HALF_A_LETTER = re.compile("[\ud800-\udfff]")
"""A pattern for half of a UTF-16 surrogate pair, which JSON allows to stand alone."""


def is_empty(value: object) -> bool:
    """Return whether a cell names nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def content_of(value: Any, column: str) -> Any:
    """Return the content of a cell in a column without media: a number or a list that is written as text is converted, and any other text
    is the path of a file.

    Raises:
        DataError: the cell holds nothing, or a list that cannot be read.
    """
    if value is None:
        raise DataError(f'has no "{column}"', remedy="Every row needs a value in every column that is used.")
    if not isinstance(value, str):
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise DataError(
                f'the value of "{column}" is of type {type(value).__name__}, which JSON cannot hold', remedy="Write numbers, lists or text."
            ) from None
        return value
    text = value.strip()
    if not is_inline(text):
        return value
    try:
        return json.loads(text) if text.startswith("[") else float(text)
    except ValueError as error:
        raise DataError(
            f'the value of "{column}" is {shortened(text)}, which is not a list: {error}', remedy="Write it as in JSON: [0.5, 1.0]."
        ) from error


def wrong_cell(role: str, column: str, value: object, where: str) -> Problem | None:
    """Return what is wrong with a cell that names a file or holds a caption or a list of captions; None if nothing is."""
    if value is None:
        return Problem(f'has no "{column}"', where, "Every row needs a value in every column that is used.")
    for text in value if role == "caption" and isinstance(value, list) and value else [value]:
        if not isinstance(text, str):
            return Problem(f'the value of "{column}" is {shortened(repr(text))}, not text', where, "Put the value in quotes.")
        if role != "caption" and not text.strip():
            return Problem(f'the value of "{column}" is empty', where, "Name a file, or leave the row out.")
        if role == "caption" and HALF_A_LETTER.search(text):
            return Problem(f'the value of "{column}" contains an unpaired surrogate, which is not valid text', where, "Write it again.")
    return None


def shortened(text: str) -> str:
    """Return the text of a cell as a message repeats it."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
