"""Write many files so that either all of them change or none: a record of what is to be written is made first, and removed last.

Most changes of captions, such as adding a prefix, must not be made twice. If the program is stopped, the change is therefore finished from its
record, and not made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.errors import DataError, Problem
from ltxcore.files import fitted, not_written, printable, write_whole

ENDING = ".captions.json"
AGAIN = "it finishes the change"


@attrs.frozen
class FinishedCaptions:
    """A change that was stopped and is now finished.

    Attributes:
        what: what the change was.
        files: the number of files that still had to be written.
    """

    what: str
    files: int


def write_captions(dataset: Path, files: Mapping[Path, bytes], what: str) -> FinishedCaptions:
    """Write files that hold captions of a dataset: all of them, or, if the program is stopped, the rest of them with `finish_captions`.

    Args:
        dataset: the dataset.
        files: the content of each file.
        what: a description of the change, which is the same only for the same change.

    Raises:
        DataError: a file cannot be written, or is outside the folder of the dataset; or another change was stopped before its end and is
            not finished yet. If some files were already written, `finish_captions` writes the remaining files.
    """
    record, base = _record(dataset), _base(dataset)
    names = {path: os.path.relpath(os.path.realpath(path), base) for path in files}
    if outside := [path for path, name in names.items() if not _is_inside(base, name)]:
        raise DataError(
            f"is outside the folder of the dataset, {base}, so its captions are not changed",
            where=str(outside[0]),
            remedy="Change it yourself.",
        )
    if record.exists():
        remedy = "Finish that change first: `ltx captions` with --write does, and so does `ltx studio`."
        raise DataError("has a change of captions that was stopped before its end", where=str(dataset), remedy=remedy)
    entries = {names[path]: [_hash(_content(path)), data.decode()] for path, data in files.items()}
    try:
        write_whole(record, json.dumps({"what": what, "files": entries}).encode())
    except OSError as error:
        raise DataError.of([not_written(error, record, "nothing has changed so far")]) from error
    return finish_captions(dataset) or FinishedCaptions(what, 0)


def captions_stopped(dataset: Path) -> bool:
    """Return whether a change of a dataset was stopped before its end."""
    return _record(dataset).is_file()


def finish_captions(dataset: Path) -> FinishedCaptions | None:
    """Finish a change that was stopped; return None if there is none.

    Raises:
        DataError: a file cannot be written, or has been changed by another program since; or the record is not one that `write_captions`
            made, since it names files outside the folder of the dataset.
    """
    record, base = _record(dataset), _base(dataset)
    if not record.is_file():
        return None
    what, entries = _entries(record)
    if outside := [name for name in entries if not _is_inside(base, name)]:  # it came with the dataset, from somebody else
        remedy = "Remove this file, and do not trust the dataset."
        raise DataError(f"would change a file outside the folder of the dataset: {printable(outside[0])}", where=str(record), remedy=remedy)
    problems, written = [], 0
    for name, (before, text) in entries.items():
        path, data = base / name, text.encode()
        try:
            now = _content(path)
            if now == data:
                continue
            if _hash(now) != before:
                remedy = "Look at the file, and change it yourself if necessary; the other files were written."
                problems.append(Problem("was changed by another program meanwhile, and is left as it is", str(path), remedy))
                continue
            write_whole(path, data)
        except OSError as error:
            problem = not_written(error, path, AGAIN)
            raise DataError.of([attrs.evolve(problem, what=f"{problem.what} ({written} of {len(entries)} files were)")]) from error
        written += 1
    try:
        record.unlink()
    except OSError as error:
        raise DataError.of([not_written(error, record, AGAIN)]) from error
    if problems:
        raise DataError.of(problems)
    return FinishedCaptions(what, written)


def _entries(record: Path) -> tuple[str, dict[str, tuple[str, str]]]:
    try:
        value = json.loads(record.read_bytes())
        return str(value["what"]), {str(name): (str(before), str(text)) for name, (before, text) in value["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        remedy = "If captions were being changed when the computer stopped, compare them with a copy; then remove this file."
        raise DataError("is not a record of `ltx captions`", where=str(record), remedy=remedy) from error


def _is_inside(base: Path, name: str) -> bool:
    """Return whether a path that is relative to a folder, or absolute, leads to a file in the folder, after links are followed."""
    return _real(base / name).is_relative_to(base)


def _base(dataset: Path) -> Path:
    return _real(dataset) if dataset.is_dir() else _real(dataset).parent


def _record(dataset: Path) -> Path:
    """Return where the record of a change lies: a hidden file in the folder, or beside the file."""
    name = "" if dataset.is_dir() else fitted(f".{_real(dataset).name}", len(ENDING))
    return _base(dataset) / f"{name}{ENDING}"


def _real(path: Path) -> Path:
    """Return a path without links. `Path.resolve` raises an error for links that lead in a circle; this function leaves such links as they
    are.
    """
    return Path(os.path.realpath(path))


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
