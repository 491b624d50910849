"""Datasets are read by sources, which are plugins: the choice of the one that reads a path, and what it gives, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.preprocessing import OF_SOURCES, PreprocessingTable
from ltxcore.config.tables import keys_of
from ltxcore.errors import DataError, LtxError, PluginError, Problem, listed, suggestion
from ltxcore.files import is_file, is_folder
from ltxcore.registry import Named, Registry, load
from ltxcore.sources import Row, Table


def read_rows(path: Path, options: PreprocessingTable) -> Table:
    """Read the rows of a dataset with the source that the options name, or else with the one that recognizes its path.

    The problems of single rows are collected in the table, so that they can be reported together with those of the
    rows' content.

    Raises:
        DataError: there is no such file or folder, no source reads it or several do, it cannot be read, or there is
            nothing in it.
        PluginError: its source fails, or breaks its protocol.
    """
    if not is_file(path) and not is_folder(path):
        raise DataError("this dataset file does not exist", where=str(path), remedy=_nearest(path, options))
    name, source = _source_of(path, options)
    try:
        table = table_of(source, path)
    except LtxError:
        raise
    except Exception as error:
        raise PluginError(
            f'the source "{name}" cannot read it: {type(error).__name__}: {error}', where=str(path), remedy="Report this to its author."
        ) from error
    if not table.rows and not table.problems and not table.unusable:
        raise _empty(table, options)
    return table


def table_of(source: Any, path: Path) -> Table:
    """Return what a source gives for a path, checked against its protocol.

    Raises:
        TypeError: it is not a table of rows.
        Exception: whatever the source raises.
    """
    table = source.read(path)
    _check(table)
    return attrs.evolve(
        table,
        problems=tuple(_placed(problem, path) for problem in table.problems),
        notes=tuple(f"{path}: {note}" for note in table.notes),
    )


def read_table(path: Path) -> Table:
    """Read the rows of a dataset with the installed source that recognizes its path.

    Raises:
        DataError: as `read_rows`.
        PluginError: as `read_rows`.
    """
    return read_rows(path, PreprocessingTable())


def is_dataset(path: Path, options: PreprocessingTable | None = None) -> bool:
    """Return whether a source that is not general recognizes what is at a path, such as a file by its ending."""
    found = _recognizing(path, options or PreprocessingTable())
    return any(not _is_general(named.value) for named in found.values())


def endings(options: PreprocessingTable | None = None) -> list[str]:
    """Return the endings of dataset files, in the order of their sources."""
    return list(dict.fromkeys(each for named in _registered(options or PreprocessingTable()).values() for each in _endings(named.value)))


# ---------------------------------------------------------------- choosing


def _registry(options: PreprocessingTable) -> Registry:
    return options.registry or load()


def _registered(options: PreprocessingTable) -> Mapping[str, Named]:
    return _registry(options).of_kind("source")


def _endings(cls: Any) -> tuple[str, ...]:
    return getattr(cls, "endings", ())


def _is_general(cls: Any) -> bool:
    return getattr(cls, "is_general", False)


def _source_of(path: Path, options: PreprocessingTable) -> tuple[str, Any]:
    """Return the name of the source that reads a path, and the source with its keys."""
    if options.source is not None and options.reader is not None:
        return options.source, options.reader
    found = _recognizing(path, options)
    asked = {key: value for key in OF_SOURCES if (value := getattr(options, key)) is not None}
    found = {name: named for name, named in found.items() if asked.keys() <= _keys(named.value)} or found
    found = {name: named for name, named in found.items() if not _is_general(named.value)} or found
    if len(found) == 1:
        ((name, named),) = found.items()
        return name, named.value(**{key: value for key, value in asked.items() if key in _keys(named.value)})
    if found:
        names = " and ".join(f'"{name}" of {named.origin}' for name, named in found.items())
        remedy = f'Say which, such as preprocessing.source = "{min(found)}".'
        raise DataError(f"can be read by several sources, {names}", where=str(path), remedy=remedy)
    raise _unknown(path, options)


def _keys(cls: Any) -> set[str]:
    return {key.name for key in keys_of(cls)}


def _recognizing(path: Path, options: PreprocessingTable) -> dict[str, Named]:
    if not is_file(path) and not is_folder(path):
        return {}
    return {name: named for name, named in _registered(options).items() if _recognizes(named, path)}


def _recognizes(named: Named, path: Path) -> bool:
    if path.suffix.lower() in _endings(named.value) and is_file(path):
        return True
    try:
        return bool(named.value.recognizes(path)) if hasattr(named.value, "recognizes") else False
    except Exception as error:
        what = f'the source "{named.name}" cannot tell whether it reads it: {type(error).__name__}: {error}'
        raise PluginError(what, where=str(path), remedy="Report this to its author.") from error


# ---------------------------------------------------------------- checking


def _check(table: Any) -> None:
    if not isinstance(table, Table):
        raise TypeError(f"read() returns {type(table).__name__}, not a Table")
    for row in table.rows:
        if not isinstance(row, Row) or not isinstance(row.values, Mapping):
            raise TypeError(f"its rows include {type(row).__name__}, not a Row with a mapping from columns to cells")
        if not all(isinstance(column, str) and column for column in row.values):
            raise TypeError("the name of a column is not text")
        if not table.is_folder and row.line < 1:
            raise TypeError(f"a row has the number {row.line}; they are counted from 1")
    for problem in (*table.problems, *table.unusable):
        if not isinstance(problem, Problem):
            raise TypeError(f"its problems include {type(problem).__name__}, not a Problem")


def _placed(problem: Problem, path: Path) -> Problem:
    """Complete a place that is the number of a line, or nothing."""
    if problem.where and not problem.where.isdecimal():
        return problem
    return attrs.evolve(problem, where=f"{path}:{problem.where}" if problem.where else str(path))


# ---------------------------------------------------------------- refusing


def _unknown(path: Path, options: PreprocessingTable) -> DataError:
    if is_folder(path):
        return DataError("is a folder, which no source reads", where=str(path), remedy=" ".join(_others(options)))
    *known, last = endings(options) or [""]
    remedy = f"Write it as {', '.join(known)} or {last}." if known else f"Write it as {last}." if last else "No source is installed."
    return DataError(f'a dataset cannot be a "{path.suffix}" file', where=str(path), remedy=" ".join((remedy, *_others(options))))


def _others(options: PreprocessingTable) -> Iterator[str]:
    """Say where a source may be that is not known."""
    registry = _registry(options)
    if registry.unread:
        yield f"It may be read by a plugin that was not loaded: {listed(map(str, registry.unread))}."
    if registry.broken:
        yield f"Or its source comes from a broken plugin: {listed(str(broken.origin) for broken in registry.broken)}; see `ltx plugins list`."


def _nearest(path: Path, options: PreprocessingTable) -> str:
    known = endings(options)
    try:
        names = [each.name for each in path.parent.iterdir() if each.suffix.lower() in known]
    except (OSError, ValueError):
        names = []
    return suggestion(path.name, names) if names else "Name a dataset file, or a folder of media."


def _empty(table: Table, options: PreprocessingTable) -> DataError:
    where = str(table.path)
    if not table.is_folder:
        remedy = 'Give it one row per sample, with the columns "video" or "audio", and "caption".'
        return DataError("has no rows", where=where, remedy=remedy)
    remedy = f"Put clips, images or sounds there, or name a dataset file ({', '.join(endings(options))})."
    notes = "".join(f" {note[:1].upper()}{note[1:]}." for note in (note.removeprefix(f"{where}: ") for note in table.notes))
    return DataError("contains no clips, images or sounds", where=where, remedy=remedy + notes)
