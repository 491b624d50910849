"""The source "table": CSV, TSV, JSON, JSON Lines and Parquet files. Each row knows its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.api import DataError, Problem
from ltxcore.api.sources import Row, Table
from ltxplugins.sources.captions import MARK, Spans, changed, in_csv, in_json_rows, json_lines, json_list, raw_text, skip
from ltxplugins.sources.parquet import read_parquet

PARQUET = ".parquet"

DELIMITERS: Mapping[str, str] = MappingProxyType({",": "a comma", ";": "a semicolon", "\t": "a tab"})
"""The delimiters between the cells of a CSV file, with their names in messages. Spreadsheets write semicolons in
countries where the comma is the decimal mark.
"""

SEPARATOR = re.compile(r"sep=(.)\r?\n")
"""The pattern of a first line in which a spreadsheet declares the delimiter."""


@attrs.frozen
class TableFile:
    """Read a CSV, TSV, JSON, JSON Lines or Parquet file, which has a row for each sample."""

    endings = (".jsonl", ".csv", ".tsv", ".json", PARQUET)

    def read(self, path: Path) -> Table:
        """Return the rows of a file, whose extension names the format."""
        if path.suffix.lower() == PARQUET:
            return read_parquet(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path), remedy="Save the file as UTF-8.") from None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the permissions of the file.") from error
        read = READERS.get(path.suffix.lower())
        if read is None:
            *formats, last = self.endings
            raise DataError(
                f'a table cannot be a "{path.suffix}" file', where=str(path), remedy=f"Write it as {', '.join(formats)} or {last}."
            )
        found = list(read(text))
        rows = tuple(item for item in found if isinstance(item, Row))
        return Table(path, rows, tuple(item for item in found if isinstance(item, Problem)))

    def recaptioned(self, table: Table, column: str, captions: Mapping[int, Any]) -> Mapping[Path, str]:
        """Return the text of the file with new captions."""
        path, ending = table.path, table.path.suffix.lower()
        if ending == PARQUET:
            raise DataError(
                "is a Parquet file, and ltx cannot change captions in Parquet files", where=str(path), remedy="Write it as .jsonl or .csv."
            )
        both = {number: (table.rows[number].values[column], caption) for number, caption in captions.items()}
        raw = raw_text(path)
        try:
            if ending in LISTS:
                return {path: in_json_rows(raw, LISTS[ending], column, both)}
            begin = len(raw) - len(raw.removeprefix(MARK))
            between, begin = _shape(raw, begin) if ending == ".csv" else ("\t", begin)
            return {path: in_csv(raw, between, begin, column, both)}
        except (ValueError, IndexError, KeyError):
            raise changed(path) from None


def _csv(text: str, delimiter: str | None = None) -> Iterator[Row | Problem]:
    between, begin = _shape(text) if delimiter is None else (delimiter, 0)
    reader = csv.reader(io.StringIO(text[begin:], newline=""), strict=True, delimiter=between)
    header: list[str] | None = None
    first = line = 2 if begin else 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken_csv(error, line, between)
            return
        start, line = line, reader.line_num + first
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                yield Problem(f'names the column "{twice[0]}" twice', str(start), "Give each column a name of its own.")
                return
        elif len(cells) != len(header):
            remedy = f"Put cells that contain {DELIMITERS.get(between, between)} in double quotes."
            yield Problem(f"has {len(cells)} cell{'' if len(cells) == 1 else 's'}, but the header has {len(header)}", str(start), remedy)
        else:
            yield Row(start, dict(zip(header, cells, strict=True)))


def _tsv(text: str) -> Iterator[Row | Problem]:
    return _csv(text, "\t")


def _shape(text: str, begin: int = 0) -> tuple[str, int]:
    """Return the delimiter of a CSV file, and where its header begins."""
    said = SEPARATOR.match(text, begin)
    return (said[1], said.end()) if said else (_delimiter(text[begin:]), begin)


def _delimiter(text: str) -> str:
    """Find the delimiter of a CSV file from its header. It is the comma, unless only another delimiter splits the
    header into several cells.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    cells = {each: len(next(csv.reader([header], delimiter=each), [])) for each in DELIMITERS}
    return "," if cells[","] > 1 else max(cells, key=lambda each: cells[each])


def _broken_csv(error: csv.Error, line: int, between: str) -> Problem:
    if "field limit" in str(error):
        what = f"has a cell of more than {csv.field_size_limit():,} characters, which is the limit for CSV"
        remedy = "Check for a double quote that is never closed: it makes everything after it one cell. If the text is really that long, write it to a .jsonl file."
        return Problem(what, str(line), remedy)
    name = DELIMITERS.get(between, between)
    return Problem(f"is not CSV: {error}", str(line), f"Put cells that contain {name}, a quote or a line break in double quotes.")


def _jsonl(text: str) -> Iterator[Row | Problem]:
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            yield Problem(f"is not a JSON object: {_reason(error)}", str(number), "Each line must be one object with the columns as keys.")
            continue
        yield _row(value, number)


def _json(text: str) -> Iterator[Row | Problem]:
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    remedy = "The file must be one list of objects, with the columns as keys."
    place = skip(text, 0)
    if text[place : place + 1] != "[":
        yield Problem("is not a list", "1", remedy)
        return
    line, counted, separator = 1, 0, True
    place = skip(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        if not separator:
            yield Problem("is not JSON: a comma is missing after the preceding object", str(line), remedy)
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            yield Problem(f"is not JSON: {_reason(error)}", str(at), remedy)
            return
        yield _row(value, line)
        place = skip(text, place)
        separator = text[place : place + 1] == ","
        place = skip(text, place + 1) if separator else place
    after = skip(text, place + 1)
    if after < len(text):
        yield Problem("contains text after the end of the list", str(1 + text.count("\n", 0, after)), remedy)


def _row(value: Any, line: int) -> Row | Problem:
    if not isinstance(value, dict):
        told = "a list" if isinstance(value, list) and len(value) > 3 else json.dumps(value)[:40]
        return Problem(f"is {told}, not an object", str(line), "Each sample must be one object with the columns as keys.")
    return Row(line, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the key "{twice}" appears twice')
    return found


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "the values are nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


READERS: Mapping[str, Callable[[str], Iterator[Row | Problem]]] = MappingProxyType(
    {".jsonl": _jsonl, ".csv": _csv, ".tsv": _tsv, ".json": _json}
)
"""The functions that turn the text of a file into rows and problems, by the file's extension."""

LISTS: Mapping[str, Callable[[str], Iterator[Spans]]] = MappingProxyType({".jsonl": json_lines, ".json": json_list})
"""The functions that find the values of each row in the text of a file of JSON objects, by the file's extension."""
