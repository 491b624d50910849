"""What the checks of plugins of every kind begin and end with: the class, its fields as the keys of a run file, and
what it raises.
"""

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
def checking(kind: str, plugin: Any, fields: Mapping[str, Any]) -> Iterator[tuple[Any, Findings]]:
    """Return a context with an object of a plugin's class, and with findings that are told at its end. A class that the
    registry refuses is told at once.

    Args:
        kind: the kind of plugin.
        plugin: an object of the class, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: for everything that is wrong.
    """
    one = plugin(**fields) if inspect.isclass(plugin) else plugin
    findings = Findings()
    said = f"{type(one).__name__} breaks the protocol of {kind}s:"
    for fault in faults_of_class(kind, one):
        findings.note(fault)
    findings.tell(said)
    yield one, findings
    findings.tell(said)


def note_all(findings: Findings, faults: Iterable[str], name: str, label: str = "") -> None:
    """Note faults, and whatever the plugin raises while they are looked for.

    Args:
        findings: where they are noted.
        faults: the faults.
        name: the plugin, as an error of the core calls it, such as `the optimizer "Lion"`.
        label: where they occur.
    """
    try:
        for fault in faults:
            findings.note(fault, label)
    except LtxError as error:
        findings.note(error.problems[0].what.removeprefix(f"{name} "), label)
    except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
        findings.note(f"raises {type(error).__name__}: {error}", label)


def faults_of_class(kind: str, one: Any, keys: Callable[[Any], Sequence[Key]] = keys_of) -> Iterator[str]:
    """Report what the registry finds wrong with the class of an object, keys without a type, and a table that changes
    when it is written and read again.
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
            yield f'its field "{key.name}" has no type, so a run file could write anything there'
    yield from _faults_of_table(one)


def _faults_of_table(one: Any) -> Iterator[str]:
    """Report a resolved run file that lacks a parameter, or that does not load again to the same values."""

    def read(table: Any) -> Any:
        structurer = Structurer(Registry({}), Path.cwd())
        try:
            return structurer.table(table, type(one))
        except Unreadable:
            mistake = structurer.reading.mistakes[0]
            raise ValueError(f'its field "{mistake.path[-1]}" {mistake.what}' if mistake.path else mistake.what) from None

    try:
        once = read(plain(one))
        if read(plain(once)) != once:
            yield "written to a run file and read again, it is not equal to itself: it must compare by its parameters"
    except ValueError as error:
        yield f"written to a run file, it cannot be read again: {error}"
