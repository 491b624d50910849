"""The source "huggingface": a local folder in the layout of Hugging Face's datasets, with a metadata file that lists
the media.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from ltxcore.api import DataError, Problem
from ltxcore.api.commands import listed
from ltxcore.api.sources import FoundMedia, Row, Table, find_media, kind_of
from ltxplugins.sources.table import TableFile

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE, SUFFIX = "file_name", "_file_name"
"""The column that names a row's file, and the ending of further columns that name files, such as "mask_file_name"."""

BEGINNING = 1 << 16
"""The number of bytes of a metadata file that are read to find out whether it names files."""


@attrs.frozen
class HuggingFace:
    """Read a folder in the layout of Hugging Face's datasets.

    A metadata.csv, metadata.jsonl or metadata.parquet lists the media of its folder in a column "file_name".

    If the media have text files beside them as captions, the source "folder" reads the folder instead.
    """

    @staticmethod
    def recognizes(path: Path) -> bool:
        files = [file for file in _metadata_in(path) if _names_files(file)]
        return bool(files) and not any(_has_captions(file.parent) for file in files)

    def read(self, path: Path) -> Table:
        """Return the rows of all metadata files in the folder, in order of the files' paths."""
        found = find_media(path)
        rows, problems, notes = [], [], []
        files = _files_in(found)
        if not files:
            remedy = f"Put a {METADATA[0]} there, with the columns {FILE} and text."
            raise DataError(f"contains no {', '.join(METADATA[:-1])} or {METADATA[-1]}", where=str(path), remedy=remedy)
        for folder, names in _by_folder(files).items():
            if len(names) > 1:
                problems.append(
                    Problem(f"has {' and '.join(map(posixpath.basename, names))}", str(path / folder), "Keep one of the files.")
                )
                continue
            table = TableFile().read(path / names[0])
            rows += [_row(row, folder, path / names[0]) for row in table.rows]
            problems += [_placed(problem, path / names[0]) for problem in table.problems]
            notes += [f"{names[0]}: {note}" for note in table.notes]
        notes += _unlisted(found, rows)
        return Table(path, tuple(rows), tuple(problems), notes=tuple(notes))

    def recaptioned(self, table: Table, column: str, captions: Mapping[int, Any]) -> Mapping[Path, str]:
        """Return the metadata files with new captions."""
        first, new = 0, dict[Path, str]()
        for names in _by_folder(_files_in(find_media(table.path))).values():
            part = TableFile().read(table.path / names[0])
            here = {number - first: captions[number] for number in range(first, first + len(part.rows)) if number in captions}
            if here:
                new |= TableFile().recaptioned(part, column, here)
            first += len(part.rows)
        return new


def _files_in(found: FoundMedia) -> list[str]:
    return sorted(name for name in found.others if PurePosixPath(name).name in METADATA)


def _by_folder(files: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in files:
        found.setdefault(posixpath.dirname(name), []).append(name)
    return found


def _metadata_in(path: Path) -> list[Path]:
    """Return the metadata files in a folder or, if there are none, in its sub-folders."""
    if not path.is_dir():
        return []
    here = [path / name for name in METADATA if (path / name).is_file()]
    if here:
        return here
    try:
        with os.scandir(path) as entries:
            folders = sorted(Path(each.path) for each in entries if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []
    return [folder / name for folder in folders for name in METADATA if (folder / name).is_file()]


def _names_files(file: Path) -> bool:
    """Return whether a metadata file has a column of files, judging by its beginning."""
    if file.suffix == ".parquet":
        return True
    try:
        with file.open("rb") as opened:
            first = next(iter(opened.read(BEGINNING).decode("utf-8-sig", "replace").splitlines()), "")
        columns = json.loads(first) if file.suffix == ".jsonl" else first.replace(";", ",").replace("\t", ",").split(",")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(columns, list | dict) and any(name.strip(' "').endswith(FILE) for name in columns if isinstance(name, str))


def _has_captions(folder: Path) -> bool:
    """Return whether any media file in a folder has a text file beside it."""
    try:
        names = [each.name for each in folder.iterdir()]
    except OSError:
        return False
    texts = {PurePosixPath(name).stem for name in names if name.lower().endswith(".txt")}
    return any(kind_of(name) is not None and PurePosixPath(name).stem in texts for name in names)


def _row(row: Row, folder: str, file: Path) -> Row:
    """Return a row with its place, and with paths relative to the dataset's folder."""
    values: dict[str, Any] = {}
    for column, cell in row.values.items():
        is_file = column == FILE or column.endswith(SUFFIX)
        name = column.removesuffix(SUFFIX) if is_file else column
        values[name] = posixpath.join(folder, cell.strip()) if is_file and isinstance(cell, str) and cell.strip() else cell
    return Row(row.line, values, place=f"{file}:{row.line}")


def _placed(problem: Problem, file: Path) -> Problem:
    return attrs.evolve(problem, where=f"{file}:{problem.where}" if problem.where.isdecimal() else problem.where or str(file))


def _unlisted(found: FoundMedia, rows: list[Row]) -> Iterator[str]:
    """Say which media in the folder are listed in no metadata file."""
    cells = {posixpath.normpath(cell.replace("\\", "/")) for row in rows for cell in row.values.values() if isinstance(cell, str)}
    others = [name for name in found.media if name not in cells]
    if others:
        yield f"left out: {len(others)} {'medium' if len(others) == 1 else 'media'} that no metadata file lists ({listed(others)})"
