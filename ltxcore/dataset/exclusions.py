"""The rows of a dataset that the user excludes, listed in a text file beside the dataset, so that neither its media nor its rows change.

For a folder, the file is `.exclude` in it; for a dataset file such as `clips.jsonl`, it is `clips.jsonl.exclude` beside it. Each line is
the path of a clip, or of a sound without a clip, as the dataset writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from ltxcore.dataset.media_folder import EXCLUDED
from ltxcore.errors import DataError, listed, many
from ltxcore.files import fitted, is_folder, not_written, write_whole
from ltxcore.sources import Row, Table


def exclusion_file(dataset: Path) -> Path:
    """Return the path of the file that lists what is excluded from a dataset, whether or not it exists."""
    return dataset / EXCLUDED if is_folder(dataset) else dataset.with_name(f"{fitted(dataset.name, len(EXCLUDED))}{EXCLUDED}")


def read_excluded(dataset: Path) -> tuple[str, ...]:
    """Return the paths of the clips that are excluded from a dataset, in the order of the file; () if there is no such file.

    Raises:
        DataError: the file cannot be read.
    """
    path = exclusion_file(dataset)
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check its permissions, or remove it.") from error
    return tuple(dict.fromkeys(line.strip() for line in text.split("\n") if line.strip()))


def write_excluded(dataset: Path, names: Iterable[str]) -> None:
    """Replace the list of the clips that are excluded from a dataset; an empty list removes the file.

    Args:
        dataset: a dataset file, or a folder of media.
        names: the paths of the clips, as the dataset writes them.

    Raises:
        DataError: a path contains a line break, or the file cannot be written.
    """
    path, kept = exclusion_file(dataset), list(dict.fromkeys(name.strip() for name in names))
    if broken := [name for name in kept if "\n" in name or not name]:
        raise DataError(f"a path with a line break cannot be excluded: {broken[0]!r}", where=str(path), remedy="Rename the file.")
    try:
        if kept:
            write_whole(path, "".join(f"{name}\n" for name in kept).encode("utf-8", "surrogateescape"))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError.of([not_written(error, path, "what was excluded before is still excluded")]) from error


def without_excluded(table: Table, columns: Mapping[str, str]) -> Table:
    """Return a dataset without the rows that the user excludes, with a note about them.

    Args:
        table: the dataset.
        columns: the column of each role.

    Raises:
        DataError: the list cannot be read, or it excludes every row.
    """
    names = read_excluded(table.path)
    if not names:
        return table
    excluded, path = frozenset(names), exclusion_file(table.path)
    there = {name_of(row, columns) for row in table.rows}
    rows = tuple(row for row in table.rows if name_of(row, columns) not in excluded)
    if table.rows and not rows:
        raise DataError("excludes every sample", where=str(path), remedy="Remove lines from it.")
    left = len(table.rows) - len(rows)
    notes = [f"{table.path}: {many(left, 'sample', 'samples')} excluded by {path}"] if left else []
    if unknown := [name for name in names if name not in there]:
        notes.append(f"{path}: {many(len(unknown), 'line names', 'lines name')} no sample ({listed(unknown, 3)})")
    return attrs.evolve(table, rows=rows, notes=(*table.notes, *notes))


def name_of(row: Row, columns: Mapping[str, str]) -> str:
    """Return the path by which a row may be excluded: that of its clip, or of its sound if it has no clip; "" if it names neither.

    Args:
        row: a row of a dataset.
        columns: the column of each role.
    """
    cells = [row.file, *(row.values.get(columns[role]) for role in ("video", "audio") if role in columns)]
    return next((cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()), "")
