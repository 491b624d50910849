"""The parts that are common to the tests of all kinds of plugins: the class, its fields as keys of a run file, and its errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltxcore.config.reading import Unreadable
from ltxcore.config.structurer import Structurer
from ltxcore.config.tables import Key, keys_of, plain
from ltxcore.errors import LtxError, PluginError
from ltxcore.registry import Named, Origin, Registry, check
from ltxcore.testing.trials import Findings


@contextmanager
def checking(
    kind: str, plugin: Any, fields: Mapping[str, Any], keys: Callable[[Any], Sequence[Key]] = keys_of, in_table: bool = True
) -> Iterator[tuple[Any, Findings]]:
    """Return a context with an object of a plugin's class and with findings, which are raised as an error at the end, or whenever
    `tell` is called. If the registry refuses the class, the error is raised at once.

    Args:
        kind: the kind of plugin.
        plugin: an object of the class, or the class.
        fields: the parameters to make an object of the class with.
        keys: returns the keys of the class in a run file.
        in_table: whether a table with these keys can be read without other plugins.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    if fields and not inspect.isclass(plugin):
        given = ", ".join(fields)
        raise AssertionError(
            f"{given} cannot be set on an object of {type(plugin).__name__}, which has its parameters; pass the class itself"
        )
    one = plugin(**fields) if inspect.isclass(plugin) else plugin
    findings = Findings(f"{type(one).__name__} breaks the protocol of {kind.replace('strategy', 'strategie')}s:")
    for fault in faults_of_class(kind, one, keys, in_table):
        findings.note(fault)
    findings.tell()
    yield one, findings
    findings.tell()


def note_all(findings: Findings, faults: Iterable[str | tuple[str, str]], name: str, label: str = "") -> None:
    """Note faults, and any error that the plugin raises in the search for faults.

    Args:
        findings: the findings to add to.
        faults: the faults; a fault may be a pair of its text and its place.
        name: the words for the plugin in errors of the core, such as `the optimizer "Lion"`.
        label: the place of the faults that have no place of their own.
    """
    try:
        for each in faults:
            fault, where = each if isinstance(each, tuple) else (each, label)
            findings.note(fault, where)
    except LtxError as error:
        findings.note(error.problems[0].what.removeprefix(f"{name} "), label)
    except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
        findings.note(f"raises {type(error).__name__}: {error}", label)


def faults_of_class(kind: str, one: Any, keys: Callable[[Any], Sequence[Key]] = keys_of, in_table: bool = True) -> Iterator[str]:
    """Report the faults that the registry finds in the class of an object, and keys without a type. If a table with the keys can be read
    without other plugins, also report a table that changes when it is written and read again.
    """
    cls = type(one)
    try:
        check(Named(cls.__name__, kind, cls, Origin("", "", "")))
        found = keys(cls)
    except PluginError as error:
        yield str(error).removeprefix(f'the {kind.replace("_", " ")} "{cls.__name__}" ')
        return
    for key in found:
        if key.kind is Any:
            yield f'has a field "{key.name}" without a type, so a run file could have any value there'
    if in_table:
        yield from _faults_of_table(one)


def _faults_of_table(one: Any) -> Iterator[str]:
    """Report an object whose parameters are not the same after they are written to a run file and read again."""

    def read(table: Any) -> Any:
        structurer = Structurer(Registry({}), Path.cwd())
        try:
            return structurer.table(table, type(one))
        except Unreadable:
            mistake = structurer.reading.mistakes[0]
            raise ValueError(f'the field "{mistake.path[-1]}" {mistake.what}' if mistake.path else mistake.what) from None

    try:
        once = read(plain(one))
        if read(plain(once)) != once:
            yield "does not equal itself after it is written to a run file and read again: it must compare by its parameters"
    except ValueError as error:
        yield f"cannot be read again after it is written to a run file: {error}"
