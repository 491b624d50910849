"""Functions that choose the source (a plugin) that reads a dataset's path, and check what the source returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.preprocessing import OF_SOURCES, PreprocessingTable
from ltxcore.config.tables import keys_of
from ltxcore.errors import DataError, LtxError, PluginError, Problem, listed, reason_of, suggestion
from ltxcore.files import is_file, is_folder
from ltxcore.registry import Named, Registry, load, load_with
from ltxcore.sources import Row, Table

PLUGIN = "add a plugin with a source that reads it: install it, or name its Python file in --plugin or in the plugins of a run file."
"""The remedy, as the end of a sentence, if no source reads a dataset."""


def read_rows(path: Path, options: PreprocessingTable) -> Table:
    """Read the rows of a dataset with the source that the options name, or else with the source that recognizes its path.

    Problems of single rows are collected in the table, so that they can be reported together with problems of the rows' content.

    Raises:
        DataError: there is no such file or folder; no source reads it, or more than one does; it cannot be read; or it is empty.
        PluginError: the source fails, or breaks its protocol.
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
            f'the source "{name}" cannot read this dataset: {reason_of(error)}',
            where=str(path),
            remedy="Report this to the author of the source.",
        ) from error
    if not table.rows and not table.problems and not table.unusable:
        raise _empty(table, options)
    return table


def table_of(source: Any, path: Path) -> Table:
    """Return the table that a source reads from a path, checked against the protocol of sources.

    Raises:
        TypeError: the source does not return a table of rows.
        Exception: whatever the source raises.
    """
    table = source.read(path)
    _check(table)
    return attrs.evolve(
        table,
        problems=tuple(_placed(problem, path) for problem in table.problems),
        notes=tuple(f"{path}: {note}" for note in table.notes),
    )


def read_table(path: Path | str, local: Iterable[Path] = ()) -> Table:
    """Read the rows of a dataset with the source that recognizes its path.

    Args:
        path: the dataset.
        local: Python files whose sources are considered beside the installed ones.

    Raises:
        DataError: as in `read_rows`.
        PluginError: as in `read_rows`; or one of the files is not a plugin.
    """
    return read_rows(Path(path), PreprocessingTable(registry=load_with(local)))


def recaptioned(table: Table, column: str, captions: Mapping[int, str | list[str]], local: Iterable[Path] = ()) -> dict[Path, bytes]:
    """Return the new content of the files that hold captions of a dataset, by path. Nothing is written.

    Args:
        table: what `read_table` returned; for a folder, perhaps without some rows.
        column: the column of the captions.
        captions: the new captions, by index of the row in the table: a text or, for a row with a list of captions, a list.
        local: Python files whose sources are considered beside the installed ones.

    Raises:
        DataError: the captions are in no file that the source can change.
        PluginError: the source fails, or breaks its protocol.
    """
    name, source = _source_of(table.path, PreprocessingTable(registry=load_with(local)))
    rewrite = getattr(source, "recaptioned", None)
    if rewrite is None:
        remedy = "Change the captions in the program that wrote them."
        raise DataError(f'is read by the source "{name}", which cannot change captions', where=str(table.path), remedy=remedy)
    try:
        return {path: text.encode() for path, text in rewrite(table, column, captions).items()}
    except LtxError:
        raise
    except Exception as error:
        what = f'the source "{name}" cannot change the captions of this dataset: {reason_of(error)}'
        raise PluginError(what, where=str(table.path), remedy="Report this to the author of the source.") from error


def is_dataset(path: Path, options: PreprocessingTable | None = None) -> bool:
    """Return whether a source other than a general one recognizes a path, for example by the ending of the file."""
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
    """Return the name of the source that reads a path, and this source with the values of its keys."""
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
        remedy = f'Choose one, such as preprocessing.source = "{min(found)}".'
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
        what = f'the source "{named.name}" cannot tell whether it reads this dataset: {reason_of(error)}'
        raise PluginError(what, where=str(path), remedy="Report this to the author of the source.") from error


# ---------------------------------------------------------------- checking


def _check(table: Any) -> None:
    if not isinstance(table, Table):
        raise TypeError(f"read() returns {type(table).__name__}, not a Table")
    names: set[Any] = set()
    for row in table.rows:
        if not isinstance(row, Row) or not isinstance(row.values, dict | Mapping):  # asking for dict first is ten times as fast
            raise TypeError(f"its rows include {type(row).__name__}, not a Row with a mapping from columns to cells")
        if not table.is_folder and row.line < 1:
            raise TypeError(f"a row has the number {row.line}; they are counted from 1")
        names.update(row.values)
    if not all(isinstance(name, str) and name for name in names):
        raise TypeError("the name of a column is not text")
    for problem in (*table.problems, *table.unusable):
        if not isinstance(problem, Problem):
            raise TypeError(f"its problems include {type(problem).__name__}, not a Problem")


def _placed(problem: Problem, path: Path) -> Problem:
    """Prepend the dataset's path to a problem's place if the place is a line number or empty."""
    if problem.where and not problem.where.isdecimal():
        return problem
    return attrs.evolve(problem, where=f"{path}:{problem.where}" if problem.where else str(path))


# ---------------------------------------------------------------- refusing


def _unknown(path: Path, options: PreprocessingTable) -> DataError:
    if is_folder(path):
        return DataError("is a folder that no source reads", where=str(path), remedy=" ".join(_others(options)))
    *known, last = endings(options) or [""]
    remedy = f"Write it as {', '.join(known)} or {last}, or " if known else f"Write it as {last}, or " if last else ""
    remedy = f"{remedy}{PLUGIN}"
    what = f'no installed source reads a "{path.suffix}" file' if path.suffix else "no installed source reads a file without an extension"
    return DataError(what, where=str(path), remedy=" ".join((f"{remedy[0].upper()}{remedy[1:]}", *_others(options))))


def _others(options: PreprocessingTable) -> Iterator[str]:
    """Yield hints where an unknown source may be found."""
    registry = _registry(options)
    if registry.unread:
        yield f"It may be read by a plugin that was not loaded: {listed(map(str, registry.unread))}."
    if registry.broken:
        yield f"Its source may come from a broken plugin: {listed(str(broken.origin) for broken in registry.broken)}; see `ltx plugins list`."


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
