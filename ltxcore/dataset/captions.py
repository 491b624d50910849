"""Functions that make captions of texts: they join the texts of several columns, divide a text into several captions, and add or remove
their beginnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ltxcore.config.caption_parts import Part, parts_of
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.errors import DataError, Problem, suggestion
from ltxcore.sources import Row, Table

BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
"""A pattern for the end of a line that is followed by a blank line."""


def with_parts(table: Table, options: PreprocessingTable) -> Table:
    """Return a dataset with the caption of each row joined from the texts of several columns, if the options name them. Other columns stay.

    Raises:
        DataError: the dataset lacks one of the columns; the message also has the dataset's other problems.
    """
    if options.caption_parts is None or not table.rows:
        return table
    parts, target = parts_of(options.caption_parts), options.caption_column or "caption"
    names = {part.column for part in parts}
    lacking = [Problem(f'has no column "{name}", which caption_parts names', str(table.path), suggestion(name, table.columns))
               for name in sorted(names - {*table.columns})]  # fmt: skip
    if lacking:
        raise DataError.of([*table.problems, *lacking])
    rows, problems = [], list(table.problems)
    for row in table.rows:
        values = {column: value for column, value in row.values.items() if column not in names}
        try:
            captions = _joined(parts, row, options.caption_separator)
        except DataError as error:
            problems += error.at(table.at(row)).problems
            continue
        rows.append(attrs.evolve(row, values={**values, target: captions if len(captions) > 1 else captions[0]}))
    columns = tuple(dict.fromkeys([*(name for name in table.columns if name not in names), target]))
    notes = table.notes
    if target in {*table.columns} - names:
        notes = (*notes, f'{table.path}: the column "{target}" is not used, because caption_parts does not name it')
    return attrs.evolve(table, rows=tuple(rows), problems=tuple(problems), columns=columns, notes=notes)


def _joined(parts: Sequence[Part], row: Row, separator: str | None) -> list[str]:
    """Return the captions of a row, joined from its parts.

    Raises:
        DataError: a cell is not text, or the cells have different numbers of captions.
    """
    texts = [_texts(row.values.get(part.column), part.column, separator) for part in parts]
    count = max(map(len, texts))
    if wrong := [f'"{part.column}" has {len(own)}' for part, own in zip(parts, texts, strict=True) if len(own) not in (1, count)]:
        most = next(part.column for part, own in zip(parts, texts, strict=True) if len(own) == count)
        what = f'the numbers of captions differ: "{most}" has {count}, {", ".join(wrong)}'
        raise DataError(what, remedy="Write the same number in each column, or a single one, which goes with all of the others.")
    told = ([part.around(own[index if len(own) > 1 else 0]) for part, own in zip(parts, texts, strict=True)] for index in range(count))
    return [" ".join(filter(None, each)) for each in told]


def _texts(cell: Any, column: str, separator: str | None) -> list[str]:
    texts = cell if isinstance(cell, list) and cell else ["" if cell is None else cell]
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f'the value of "{column}" is {text!r}, not text', remedy="Put the value in quotes.")
    return divided(texts, separator) if separator is not None else texts


def divided(texts: Iterable[str], separator: str) -> list[str]:
    """Return the stripped captions in texts in which a separator stands between captions; a single empty caption if there are none.

    Args:
        texts: the texts of a sample.
        separator: the separator; "blank-line" for blank lines.
    """
    between = BLANK_LINE if separator == "blank-line" else re.compile(re.escape(separator))
    return [part.strip() for text in texts for part in between.split(text) if part.strip()] or [""]


def preceded_by(caption: str, words: str | None) -> str:
    """Return a caption preceded by the stripped trigger word or prefix and a space."""
    return f"{words.strip()} {caption}" if words and words.strip() else caption


_IT = r"(?:video(?: clip)?|clip|footage|film|scene|shot|sequence|image|picture|photo(?:graph)?|audio(?: clip)?|recording)"
_SHOWS = (
    r"(?:shows?|showcases|showing|depicts|depicting|displays|features|captures|portrays|presents|illustrates|contains|focuses on"
    r"|(?:begins|starts|opens) with|opens on)"
)
_SEEN = r"(?:(?:we|you)(?: can)? see|there (?:is|are))"

OPENINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Each pattern is tried once, in this order: a reply to a request, the thing described, the viewer.
        r"(?:sure|certainly|of course)[,.!]\s+",
        r"here(?:'s| is) (?:a|an|the|your) (?:[\w-]+ ){0,4}(?:caption|description)[^:\n]{0,40}:\s*",
        rf"(?:in|throughout) (?:the|this) {_IT}(?:,\s+(?:{_SEEN}\s+)?|\s+{_SEEN}\s+)",
        rf"(?:the|this|an?) {_IT} (?:that )?{_SHOWS}(?:[:,]\s*|\s+)",
        r"(?:we|you)(?: can)? see\s+",
    )
)


def without_opening(caption: str) -> str:
    """Remove a caption's stock opening and capitalize the next word. A caption that has no stock opening, or nothing else, is returned
    unchanged.
    """
    rest = caption.strip()
    for opening in OPENINGS:
        found = opening.match(rest)
        rest = rest[found.end() :] if found else rest
    return caption if rest in ("", caption.strip()) else rest[0].upper() + rest[1:]
