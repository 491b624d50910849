"""The test of a source against its protocol, on a dataset that its author supplies, and on damaged copies of that dataset."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.dataset.columns import bind, columns_of
from ltxcore.dataset.media_folder import kind_of
from ltxcore.dataset.sources import table_of
from ltxcore.errors import LtxError
from ltxcore.files import is_folder
from ltxcore.testing.keys import checking

LARGE = 1 << 20
"""The maximum size, in bytes, of a file that damaged copies are made of."""

MOST_FILES = 8
"""The maximum number of files in a folder that are damaged, one at a time."""

ADDED = "new, \u00e9\u4e2d"
"""The text that is added to captions: marks and letters that a format may have to escape."""

DAMAGES: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {
        "emptied": lambda data: b"",
        "cut in half": lambda data: data[: len(data) // 2],
        "filled with zeros": lambda data: bytes(len(data)),
        "with bytes that are not text in its middle": lambda data: data[: len(data) // 2] + b"\xff\xfe\x00\x80" + data[len(data) // 2 :],
        "with its beginning lost": lambda data: data[len(data) // 3 :],
        "said twice": lambda data: data + data,
    }
)
"""The kinds of damage that a file may suffer in transit."""


def check_source(source: Any, dataset: Path, **fields: Any) -> None:
    """Check that a source reads a dataset in the way that the core relies on: the rows are the same each time, the core knows their
    columns, the dataset stays unchanged, damaged datasets are refused with an LtxError, and `recaptioned`, if there is one, changes the
    captions and nothing else.

    Args:
        source: an object of the class that `ltx_sources` names, or the class.
        dataset: a small dataset that the source reads; the media that the dataset names need not exist.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("source", source, fields) as (one, findings):
        for look in (_recognizes, _reads, _refuses, _recaptions):
            for fault in look(one, dataset):
                findings.note(fault)


def _recognizes(one: Any, dataset: Path) -> Iterator[str]:
    recognizes: Any = getattr(one, "recognizes", None)
    by_ending = dataset.suffix.lower() in getattr(one, "endings", ()) and not is_folder(dataset)
    with tempfile.TemporaryDirectory() as folder:
        empty, other, like = Path(folder) / "empty", Path(folder) / "notes.pdf", Path(folder) / f"set{dataset.suffix}"
        empty.mkdir()
        other.write_bytes(b"%PDF-1.7\n\xff\xfe\x00")
        like.touch()
        found: dict[Path, object] = {}
        for path in (dataset, empty, other, like, Path(folder) / "missing") if recognizes is not None else ():
            try:
                found[path] = recognizes(path)
            except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
                yield f"recognizes() raises {type(error).__name__} for {'a path' if path is dataset else path.name}: {error}"
    if not by_ending and not found.get(dataset, False):
        yield "does not recognize the dataset: neither its endings nor recognizes() say that it reads it"
    if found.get(other):
        yield "recognizes a PDF"


def _reads(one: Any, dataset: Path) -> Iterator[str]:
    before = _state(dataset)
    try:
        first, second = table_of(one, dataset), table_of(one, dataset)
    except LtxError as error:
        yield f"does not read the dataset: {error}"
        return
    except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
        yield f"raises {type(error).__name__} for the dataset: {error}"
        return
    if not first.rows:
        yield "gives no rows of the dataset that it is tried on"
        return
    if _state(dataset) != before:
        yield "writes to the folder of the dataset"
    if (first.rows, first.columns) != (second.rows, second.columns):
        yield "gives different rows, or another order, when it reads the same dataset again"
    for problem in (*first.problems, *first.unusable):
        yield f"finds a fault in the dataset that it is tried on: {problem}"
    columns = bind(attrs.evolve(first, problems=()), {}).columns
    if not {"video", "audio"} & columns.keys():
        yield f"gives the columns {', '.join(first.columns) or 'of no name'}; the core knows {', '.join(name for column in columns_of().all for name in column.names)}"
    if len(first.rows) > 1 and len({first.at(row) for row in first.rows}) == 1:
        yield "gives all rows the same place, so that a message cannot tell them apart"


def _refuses(one: Any, dataset: Path) -> Iterator[str]:
    """Report damaged copies for which the source raises anything but an LtxError."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / dataset.name
        for file in _files(dataset):
            there = copy / file.relative_to(dataset) if is_folder(dataset) else copy
            for name, damage in DAMAGES.items():
                _copy(dataset, copy)
                there.write_bytes(damage(file.read_bytes()))
                try:
                    table_of(one, copy)
                except LtxError:
                    continue
                except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
                    yield f"raises {type(error).__name__} for {file.name} {name}: {error}; raise DataError, or give a Problem"


def _recaptions(one: Any, dataset: Path) -> Iterator[str]:
    """Report captions that are not changed as asked, and everything else that changes with them."""
    if not hasattr(one, "recaptioned"):
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / dataset.name
        _copy(dataset, copy)
        try:
            table = table_of(one, copy)
        except Exception:  # noqa: BLE001 - it is told by what reads the dataset
            return
        column = bind(attrs.evolve(table, problems=()), {}).columns.get("caption", "")
        captions = {number: f'"{old}"; {ADDED}' for number, row in enumerate(table.rows) if isinstance(old := row.values.get(column), str)}
        if not captions:
            return
        before = _state(copy)
        try:
            new = one.recaptioned(table, column, captions)
            if _state(copy) != before:
                yield "writes in recaptioned(), which must only return what is to be written"
            for path, text in new.items():
                path.write_bytes(text.encode())
            again = table_of(one, copy)
        except LtxError:  # it may refuse what it cannot change
            return
        except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
            yield f"raises {type(error).__name__} where captions are changed: {error}"
            return
    expected = [{**row.values, column: captions[number]} if number in captions else row.values for number, row in enumerate(table.rows)]
    if [dict(row.values) for row in again.rows] != expected:
        yield "after recaptioned(), does not give the rows that it read with the new captions"


def _files(dataset: Path) -> list[Path]:
    """Return the files to damage: the dataset file, or the files of a folder that are not media."""
    if not is_folder(dataset):
        return [dataset] if dataset.stat().st_size <= LARGE else []
    files = sorted(path for path in dataset.rglob("*") if path.is_file() and kind_of(path.name) is None and path.stat().st_size <= LARGE)
    return files[:MOST_FILES]


def _copy(dataset: Path, to: Path) -> None:
    if not is_folder(dataset):
        shutil.copyfile(dataset, to)
        return
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(dataset, to)


def _state(dataset: Path) -> dict[str, tuple[int, int]]:
    """Return the size of each file in the folder of a dataset, and the time of its last change."""
    paths = dataset.rglob("*") if is_folder(dataset) else dataset.parent.iterdir()
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}
