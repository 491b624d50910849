"""Replace captions in the text of dataset files. Everything else, from quotes to line endings, stays as it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ltxcore.api import DataError

Span = tuple[int, int]
Spans = Mapping[str, Span]
"""The beginning and the end of each column's value."""

MARK = "\ufeff"
"""The byte order mark with which some programs begin UTF-8 files."""

_DECODER = json.JSONDecoder()


def raw_text(path: Path) -> str:
    """Return the text of a UTF-8 file with its byte order mark and its own line endings.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise changed(path) from None
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="Check that you have permission to read the file."
        ) from error


def changed(path: Path) -> DataError:
    """Return the error for a file that is no longer as it was when the captions were read."""
    return DataError("was changed while its captions were read", where=str(path), remedy="Run the same command again.")


def in_text_file(raw: str, caption: str) -> str:
    """Return the text of a caption file with a new caption, but the same line endings and the same space around the caption."""
    text = raw.removeprefix(MARK)
    begin, end = len(raw) - len(text.lstrip()), len(text) - len(text.rstrip())
    if not text.strip():
        begin, end = len(raw) - len(text), len(text)
    return f"{raw[:begin]}{_with_ends_of(raw, caption)}{raw[len(raw) - end :]}"


def in_json_file(raw: str, keys: tuple[str, ...], caption: str | list[str]) -> str:
    """Return the text of a JSON file with a new caption. The file is a string or a list, or has the caption under the first of `keys` that exists."""
    begin = skip(raw, len(raw) - len(raw.removeprefix(MARK)))
    if raw[begin] in '"[':
        span = begin, _end(raw, begin)
    else:
        spans = _object(raw, begin)[0]
        span = spans[next(key for key in keys if key in spans)]
    return _spliced(raw, {span: _as_json(raw, span, caption)})


def in_csv(raw: str, delimiter: str, begin: int, column: str, captions: Mapping[int, tuple[str, str]]) -> str:
    """Return the text of a CSV file with new captions.

    Args:
        raw: the text.
        delimiter: the delimiter between cells.
        begin: where the header begins.
        column: the column of captions.
        captions: the old and the new caption of rows, by number of the row, from 0.

    Raises:
        ValueError: the text does not hold the old captions.
    """
    records = (record for record in _records(raw, delimiter, begin) if any(_cell(raw, span).strip() for span in record))
    header = [_cell(raw, span).strip() for span in next(records, [])]
    at = header.index(column)
    special = (delimiter, '"', "\n", "\r")
    new: dict[Span, str] = {}
    for number, record in enumerate(records):
        if number in captions:
            before, after = captions[number]
            span = record[at]
            if _unix(_cell(raw, span)) != before:
                raise ValueError(before)
            text, is_quoted = _with_ends_of(raw, _unix(after)), raw[span[0] : span[0] + 1] == '"'
            new[span] = '"{}"'.format(text.replace('"', '""')) if is_quoted or any(each in text for each in special) else text
    return _spliced(raw, new)


def in_json_rows(raw: str, rows: Callable[[str], Iterator[Spans]], column: str, captions: Mapping[int, tuple[Any, Any]]) -> str:
    """Return the text of a file of JSON objects with new captions; the arguments are like those of `in_csv`.

    Raises:
        ValueError: the text does not hold the old captions.
    """
    new: dict[Span, str] = {}
    for number, spans in enumerate(rows(raw)):
        if number in captions:
            before, after = captions[number]
            begin, end = span = spans[column]
            if json.loads(raw[begin:end]) != before:
                raise ValueError(before)
            new[span] = _as_json(raw, span, after)
    return _spliced(raw, new)


def json_lines(raw: str) -> Iterator[Spans]:
    """Yield the spans of the values in each line of a JSON Lines file."""
    for line in re.finditer(r"[^\r\n]+", raw):
        if line[0].removeprefix(MARK).strip():
            yield _object(raw, raw.index("{", line.start()))[0]


def json_list(raw: str) -> Iterator[Spans]:
    """Yield the spans of the values in each object of a JSON list."""
    place = skip(raw, raw.index("[") + 1)
    while raw[place] != "]":
        spans, place = _object(raw, place)
        yield spans
        place = _next(raw, place)


def skip(text: str, place: int) -> int:
    """Return the place of the first character, from `place` on, that is not white space in JSON."""
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _next(text: str, place: int) -> int:
    """Return the place after white space and, if there is one, a comma."""
    place = skip(text, place)
    return skip(text, place + 1) if text[place] == "," else place


def _object(text: str, place: int) -> tuple[dict[str, Span], int]:
    """Return the spans of an object's values, by key, and where the object ends."""
    spans: dict[str, Span] = {}
    place = skip(text, place + 1)
    while text[place] != "}":
        key, place = _DECODER.raw_decode(text, place)
        begin = skip(text, skip(text, place) + 1)
        place = _end(text, begin)
        spans[key] = begin, place
        place = _next(text, place)
    return spans, place + 1


def _end(text: str, begin: int) -> int:
    return _DECODER.raw_decode(text, begin)[1]


def _as_json(text: str, span: Span, caption: str | list[str]) -> str:
    """Return a caption, or a list of captions, as JSON, with letters escaped as in the string that it replaces."""
    return json.dumps(caption, ensure_ascii="\\u" in text[slice(*span)])


def _records(text: str, delimiter: str, place: int) -> Iterator[list[Span]]:
    """For each record of a CSV file that the strict CSV reader has accepted, yield the spans of the cells."""
    cell = re.compile(rf'"[^"]*(?:""[^"]*)*"|[^{re.escape(delimiter)}\r\n]*')
    while place < len(text):
        record: list[Span] = []
        while not record or text[place : place + 1] == delimiter:
            found = cell.match(text, place + bool(record))
            record.append(found.span() if found else (place, place))
            place = record[-1][1]
        yield record
        place += 2 if text.startswith("\r\n", place) else 1


def _cell(text: str, span: Span) -> str:
    cell = text[slice(*span)]
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _with_ends_of(raw: str, caption: str) -> str:
    return caption.replace("\n", "\r\n") if "\r\n" in raw else caption


def _spliced(text: str, new: Mapping[Span, str]) -> str:
    parts, place = [], 0
    for (begin, end), part in sorted(new.items()):
        parts += [text[place:begin], part]
        place = end
    return "".join([*parts, text[place:]])
