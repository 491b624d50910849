"""Structuring without stopping: every mistake is written down with its key path, and reading goes on beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import attrs

from ltxcore.errors import LtxError, Problem

KeyPath = tuple[str | int, ...]


class Unreadable(LtxError):
    """A value could not be structured, or is not there to be used; why is already written down, so that it holds no problem of its own."""

    def __init__(self) -> None:
        self.problems = ()
        Exception.__init__(self, "what this needs could not be read")

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> LtxError:
        error = cls()
        error.problems = tuple(problems)
        return error


@attrs.frozen
class Mistake:
    """What is wrong at a key path, and what to do about it.

    Attributes:
        path: of the key.
        what: is wrong.
        remedy: what to do about it.
        unread: nothing is wrong, but it could not be looked at.
        absent: it names a file or folder that is not there.
    """

    path: KeyPath
    what: str
    remedy: str = ""
    unread: bool = False
    absent: bool = False


@attrs.define
class Reading:
    """Where in the file structuring is, and what it has found."""

    path: KeyPath = ()
    mistakes: list[Mistake] = attrs.field(factory=list)

    @contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """Go into a table or a list for as long as the block lasts."""
        before = self.path
        self.path = (*before, *keys)
        try:
            yield
        finally:
            self.path = before

    def note(self, what: str, remedy: str = "", *, below: KeyPath = (), unread: bool = False, absent: bool = False) -> None:
        """Write a mistake down, or what could not be looked at, and go on."""
        self.mistakes.append(Mistake((*self.path, *below), what, remedy, unread, absent))

    def is_absent(self, name: str) -> bool:
        """Whether a key here names what is not there."""
        return any(mistake.absent and mistake.path == (*self.path, name) for mistake in self.mistakes)

    def refuse(self, what: str, remedy: str = "") -> NoReturn:
        """Write a mistake down and give this value up.

        Raises:
            Unreadable: always.
        """
        self.note(what, remedy)
        raise Unreadable


def spelled(path: KeyPath) -> str:
    """A key path as it is written: `training_strategy.audio.conditions[0].type`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("_", "a").replace("-", "a").isalnum()
            text += ("." if text else "") + (part if bare else f'"{part}"')
    return text
