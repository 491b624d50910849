"""Structuring that goes on after a mistake: each mistake is noted with its key path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import attrs

from ltxcore.errors import LtxError, Problem

KeyPath = tuple[str | int, ...]


class Unreadable(LtxError):
    """Raised if a value could not be structured, or is not available. The reason is already noted, so the exception holds no
    problem of its own.
    """

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
    """A mistake at a key path, with its remedy.

    Attributes:
        path: the key path.
        what: what is wrong.
        remedy: advice on what to do about it.
        unread: whether the value could not be checked, and is therefore not known to be wrong.
        absent: whether the key names a file or folder that does not exist.
    """

    path: KeyPath
    what: str
    remedy: str = ""
    unread: bool = False
    absent: bool = False


@attrs.define
class Reading:
    """The place in the file that structuring has reached, and the mistakes found so far."""

    path: KeyPath = ()
    mistakes: list[Mistake] = attrs.field(factory=list)

    @contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """Enter a table or a list for the duration of the block."""
        before = self.path
        self.path = (*before, *keys)
        try:
            yield
        finally:
            self.path = before

    def note(self, what: str, remedy: str = "", *, below: KeyPath = (), unread: bool = False, absent: bool = False) -> None:
        """Note a mistake, or a value that could not be checked, and go on."""
        self.mistakes.append(Mistake((*self.path, *below), what, remedy, unread, absent))

    def is_absent(self, name: str) -> bool:
        """Return whether a key of the current table names a file or folder that does not exist."""
        return any(mistake.absent and mistake.path == (*self.path, name) for mistake in self.mistakes)

    def refuse(self, what: str, remedy: str = "") -> NoReturn:
        """Note a mistake and give up on this value.

        Raises:
            Unreadable: always.
        """
        self.note(what, remedy)
        raise Unreadable


def spelled(path: KeyPath) -> str:
    """Spell a key path as it is written: `training_strategy.audio.conditions[0].type`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("_", "a").replace("-", "a").isalnum()
            text += ("." if text else "") + (part if bare else f'"{part}"')
    return text
