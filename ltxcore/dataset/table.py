"""Dataset files: CSV, TSV, JSON and JSON Lines files are read as rows that know their line, and rows are written to such files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.errors import ConfigError, DataError, Problem, suggestion
from ltxcore.files import is_file, write_whole

DELIMITERS: Mapping[str, str] = MappingProxyType({",": "a comma", ";": "a semicolon", "\t": "a tab"})
"""The delimiters between the cells of CSV, and their names in messages; spreadsheets write the semicolon where the
comma is the decimal mark.
"""

SEPARATOR = re.compile(r"sep=(.)\r?\n")
"""The first line of a file in which spreadsheets may declare the delimiter."""


@attrs.frozen
class Row:
    """A row of a dataset, with its cells.

    Attributes:
        line: the line of a dataset file where the row starts, counted from 1; 0 for a folder, whose rows are files.
        values: its cells, by column.
        file: for a folder, the media file, as a path under the folder.
        lacks: for a folder, the reason why it has no caption; None if it has one.
    """

    line: int
    values: Mapping[str, Any]
    file: str = ""
    lacks: Problem | None = None


@attrs.frozen
class Table:
    """The content of a dataset: its rows, the names of its columns in order of appearance, and what is wrong with it.

    Attributes:
        path: the dataset file or the folder of media.
        columns: the names of the columns of all rows.
        rows: the rows, in order.
        problems: the problems that must be fixed before anything can be made from the dataset.
        unusable: for a folder, the files that cannot be used; they may be left out.
        notes: facts that the user should know and that are not mistakes.
        is_folder: whether it is a folder of media; its rows have a clip or a picture ("video"), or an audio file
            ("audio"), never both.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    unusable: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    is_folder: bool = False

    @property
    def folder(self) -> Path:
        """The folder that the dataset's paths are relative to."""
        return self.path if self.is_folder else self.path.parent

    def at(self, row: Row) -> str:
        """Return the place of a row, for a message."""
        return str(self.path / row.file) if self.is_folder else f"{self.path}:{row.line}"


def read_table(path: Path) -> Table:
    """Read a dataset file in the format of its suffix.

    The problems of single rows are collected in the table, so that they can be reported together with those of the
    rows' content.

    Raises:
        DataError: there is no such file, it may not be read, its suffix is not that of a known format, its text is not
            UTF-8, or it has no row at all.
    """
    if not is_file(path):
        raise DataError("there is no such dataset file", where=str(path), remedy=_nearest(path))
    known = FORMATS.get(path.suffix.lower())
    if known is None:
        *formats, last = FORMATS
        remedy = f"Write it as {', '.join(formats)} or {last}."
        raise DataError(f'datasets do not come as "{path.suffix}" files', where=str(path), remedy=remedy)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path), remedy="Save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check that you may read it.") from error
    rows: list[Row] = []
    problems: list[Problem] = []
    for item in known.rows(text):
        if isinstance(item, Row):
            rows.append(item)
        else:
            problems.append(attrs.evolve(item, where=f"{path}:{item.where}" if item.where else str(path)))
    if not rows and not problems:
        raise DataError(
            "has no rows", where=str(path), remedy='Give it one row per sample, with the columns "video" or "audio", and "caption".'
        )
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return Table(path, tuple(columns), tuple(rows), tuple(problems))


def _csv(text: str, delimiter: str | None = None) -> Iterator[Row | Problem]:
    said = SEPARATOR.match(text)
    begin = said.end() if said else 0
    between = delimiter or (said[1] if said else _delimiter(text[begin:]))
    reader = csv.reader(io.StringIO(text[begin:], newline=""), strict=True, delimiter=between)
    header: list[str] | None = None
    first = line = 2 if said else 1
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
            remedy = f"Put cells that hold {DELIMITERS.get(between, between)} in double quotes."
            yield Problem(f"has {len(cells)} cells, but the header names {len(header)}", str(start), remedy)
        else:
            yield Row(start, dict(zip(header, cells, strict=True)))


def _tsv(text: str) -> Iterator[Row | Problem]:
    return _csv(text, "\t")


def _delimiter(text: str) -> str:
    """Find the delimiter of a CSV file by its header: a comma, unless with commas the header would be a single cell,
    and with another delimiter several cells.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    cells = {each: len(next(csv.reader([header], delimiter=each), [])) for each in DELIMITERS}
    return "," if cells[","] > 1 else max(cells, key=lambda each: cells[each])


def _broken_csv(error: csv.Error, line: int, between: str) -> Problem:
    if "field limit" in str(error):
        what = f"has a cell of more than {csv.field_size_limit():,} letters, which is more than CSV is read with"
        remedy = "Check whether a double quote is not closed, which makes one cell of all that follows it. Text that is really so long goes into a .jsonl file."
        return Problem(what, str(line), remedy)
    name = DELIMITERS.get(between, between)
    return Problem(f"is not CSV: {error}", str(line), f"Put cells that hold {name}, a quote or a line break in double quotes.")


def _jsonl(text: str) -> Iterator[Row | Problem]:
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = decoder.decode(line)
        except (ValueError, RecursionError) as error:
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
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            yield Problem(f"is not JSON: {_reason(error)}", str(at), remedy)
            return
        yield _row(value, line)
        place = _skip(text, place)
        separator = text[place : place + 1] == ","
        place = _skip(text, place + 1) if separator else place
    after = _skip(text, place + 1)
    if after < len(text):
        yield Problem("continues after the end of the list", str(1 + text.count("\n", 0, after)), remedy)


def _row(value: Any, line: int) -> Row | Problem:
    if not isinstance(value, dict):
        told = "a list" if isinstance(value, list) and len(value) > 3 else json.dumps(value)[:40]
        return Problem(f"is {told}, not an object", str(line), "Each sample is one object with the columns as keys.")
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


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _nearest(path: Path) -> str:
    try:
        names = [each.name for each in path.parent.iterdir() if each.suffix.lower() in FORMATS]
    except (OSError, ValueError):
        names = []
    return suggestion(path.name, names) if names else "Name a dataset file, or a folder of media."


def rows_writer(path: Path) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    """Return a function that writes rows, each a mapping from column to cell, as a dataset file of this name; each call
    replaces the file as a whole.

    Raises:
        ConfigError: datasets are not written with this ending.
        DataError: raised by the function that is returned if the file cannot be written.
    """
    known = FORMATS.get(path.suffix.lower())
    if known is None or known.text is None:
        raise ConfigError(f'datasets are not written as "{path.suffix}" files', where=str(path), remedy="Write .jsonl, .json or .csv.")
    as_text = known.text

    def write(rows: Sequence[Mapping[str, Any]]) -> None:
        try:
            write_whole(path, as_text(rows).encode())
        except OSError as error:
            raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Make room, or name another file.") from error

    return write


def _csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _jsonl_text(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json_text(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, indent=2) + "\n"


@attrs.frozen
class Format:
    """The format of dataset files with one ending: how text becomes rows and problems, and how rows become text. A
    format without `text` can only be read.
    """

    rows: Callable[[str], Iterator[Row | Problem]]
    text: Callable[[Sequence[Mapping[str, Any]]], str] | None = None


FORMATS: Mapping[str, Format] = MappingProxyType(
    {".jsonl": Format(_jsonl, _jsonl_text), ".csv": Format(_csv, _csv_text), ".tsv": Format(_tsv), ".json": Format(_json, _json_text)}
)


def medium_at(folder: Path, cell: str) -> tuple[str, Path]:
    """Return a cell that names a file, and that file. If the cell has backslashes, as in Windows paths, and only the
    path with "/" exists, that path is meant.
    """
    path = Path(os.path.normpath(os.path.join(folder, cell)))  # noqa: PTH118 - making a Path is slow, and this is done for each cell
    if "\\" in cell and not os.path.lexists(path):
        other = cell.replace("\\", "/")
        there = Path(os.path.normpath(folder / other))
        if is_file(there):
            return other, there
    return cell, path
