"""A test that holds a source to its protocol, on a dataset of its author, and on damaged copies of it."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.dataset.columns import ALIASES, bind
from ltxcore.dataset.media_folder import kind_of
from ltxcore.dataset.sources import table_of
from ltxcore.errors import LtxError
from ltxcore.files import is_folder
from ltxcore.testing.keys import faults_of_class
from ltxcore.testing.trials import Findings

LARGE = 1 << 20
"""The bytes of a file above which no damaged copy of it is made."""

MOST_FILES = 8
"""The number of files of a folder that are damaged, one at a time."""

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
"""What may happen to a file on its way."""


def check_source(source: Any, dataset: Path, **fields: Any) -> None:
    """Check that a source reads a dataset as the core relies on: the same rows each time, with columns that the core
    knows, without a change to the dataset; and that it refuses damaged ones in words.

    Args:
        source: an object of the class that `ltx_sources` names, or the class.
        dataset: a small dataset that it reads; the media that it names need not exist.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: for everything that is wrong.
    """
    one: Any = source(**fields) if inspect.isclass(source) else source
    findings = Findings()
    said = f"{type(one).__name__} breaks the protocol of sources:"
    for fault in faults_of_class("source", one):
        findings.note(fault)
    findings.tell(said)
    for look in (_recognizes, _reads, _refuses):
        for fault in look(one, dataset):
            findings.note(fault)
    findings.tell(said)


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
        yield "writes where the dataset is"
    if (first.rows, first.columns) != (second.rows, second.columns):
        yield "gives different rows, or another order, when it reads the same dataset again"
    for problem in (*first.problems, *first.unusable):
        yield f"finds a fault in the dataset that it is tried on: {problem}"
    columns = bind(attrs.evolve(first, problems=()), {}).columns
    if not {"video", "audio"} & columns.keys():
        yield f"gives the columns {', '.join(first.columns) or 'of no name'}; the core knows {', '.join(name for names in ALIASES.values() for name in names)}"
    if len(first.rows) > 1 and len({first.at(row) for row in first.rows}) == 1:
        yield "gives all rows the same place, so that a message cannot tell them apart"


def _refuses(one: Any, dataset: Path) -> Iterator[str]:
    """Report damaged copies for which the source raises anything but an error in words."""
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


def _files(dataset: Path) -> list[Path]:
    """Return the files to damage: the dataset file, or those of a folder that are no media."""
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
    """Return the size and the time of the last change of each file of a dataset, or beside its file."""
    paths = dataset.rglob("*") if is_folder(dataset) else dataset.parent.iterdir()
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}
