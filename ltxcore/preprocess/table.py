"""Dataset files: CSV, JSON and JSON Lines as rows that know their line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.errors import DataError, Problem, suggestion


@attrs.frozen
class Row:
    """One row of a dataset file; `line` is where it starts, counted from 1."""

    line: int
    values: Mapping[str, Any]


@attrs.frozen
class Table:
    """A dataset file as read: its rows, the names of its columns in order of appearance, and what is wrong with its text."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()

    def at(self, line: int) -> str:
        """A line of the file, for a message."""
        return f"{self.path}:{line}"


def read_table(path: Path) -> Table:
    """Read a dataset file by its suffix.

    Problems of single rows are collected in the table, so that they can be told together with what the rows say.

    Raises:
        DataError: no such file, a suffix of another format, text that is not UTF-8, or no row at all.
    """
    if path.is_dir():
        raise DataError("is a folder, not a dataset file", where=str(path), remedy=f"Name a file in it that ends in {_known()}.")
    if not path.is_file():
        raise DataError("there is no such dataset file", where=str(path), remedy=_nearest(path))
    parse = FORMATS.get(path.suffix.lower())
    if parse is None:
        raise DataError(f'datasets do not come as "{path.suffix}" files', where=str(path), remedy=f"Write it as {_known()}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path), remedy="Save it as UTF-8.") from None
    rows: list[Row] = []
    problems: list[Problem] = []
    for item in parse(text):
        if isinstance(item, Row):
            rows.append(item)
        else:
            problems.append(attrs.evolve(item, where=f"{path}:{item.where}" if item.where else str(path)))
    if not rows and not problems:
        raise DataError(
            "has no rows", where=str(path), remedy='Give it one row a sample, with the columns "video" or "audio", and "caption".'
        )
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return Table(path, tuple(columns), tuple(rows), tuple(problems))


def _csv(text: str) -> Iterator[Row | Problem]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(f"is not CSV: {error}", str(line), "Put cells that hold a comma, a quote or a line break in double quotes.")
            return
        start, line = line, reader.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                yield Problem(f'names the column "{twice[0]}" twice', str(start), "Give each column a name of its own.")
                return
        elif len(cells) != len(header):
            yield Problem(
                f"has {len(cells)} cells, but the header names {len(header)}", str(start), "Put cells that hold a comma in double quotes."
            )
        else:
            yield Row(start, dict(zip(header, cells, strict=True)))


def _jsonl(text: str) -> Iterator[Row | Problem]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_object)
        except ValueError as error:
            yield Problem(f"is not a JSON object: {_reason(error)}", str(number), "Each line is one object with the columns as keys.")
            continue
        yield _row(value, number)


def _json(text: str) -> Iterator[Row | Problem]:
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    remedy = "The file is one list of objects, with the columns as keys."
    place = _skip(text, 0)
    if text[place : place + 1] != "[":
        yield Problem("is not a list", "1", remedy)
        return
    line, counted, separator = 1, 0, True
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        if not separator:
            yield Problem("is not JSON: a comma is missing after the object before", str(line), remedy)
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except ValueError as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            yield Problem(f"is not JSON: {_reason(error)}", str(at), remedy)
            return
        yield _row(value, line)
        place = _skip(text, place)
        separator = text[place : place + 1] == ","
        place = _skip(text, place + 1) if separator else place
    after = _skip(text, place + 1)
    if after < len(text):
        yield Problem("goes on after the end of the list", str(1 + text.count("\n", 0, after)), remedy)


def _row(value: Any, line: int) -> Row | Problem:
    if not isinstance(value, dict):
        return Problem(f"is {json.dumps(value)[:40]}, not an object", str(line), "Each sample is one object with the columns as keys.")
    return Row(line, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the key "{twice}" is there twice')
    return found


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _reason(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _known() -> str:
    return ", ".join(list(FORMATS)[:-1]) + " or " + list(FORMATS)[-1]


def _nearest(path: Path) -> str:
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return suggestion(path.name, [each.name for each in beside if each.suffix.lower() in FORMATS])


FORMATS: Mapping[str, Callable[[str], Iterator[Row | Problem]]] = MappingProxyType({".jsonl": _jsonl, ".csv": _csv, ".json": _json})
