"""Mistakes that are found after a file was read, put where they stand in it."""

from __future__ import annotations

import re
from typing import Protocol

import attrs

from ltxcore.config.run_file import RunFile
from ltxcore.errors import LtxError

KEY = re.compile(rf"({'|'.join(field.name for field in attrs.fields(RunFile))})((?:\.\w+)*)(.*)", re.DOTALL)


class HasPlaces(Protocol):
    """A file that was read and knows where its keys are."""

    def where(self, key: str) -> str:
        """The place of a key for a message."""
        ...


def located(error: LtxError, loaded: HasPlaces) -> LtxError:
    """The same error, with file and line where it says a key of the file."""

    def place(where: str) -> str:
        found = KEY.fullmatch(where)
        return loaded.where(found[1] + found[2]) + found[3] if found else where

    return type(error).of(attrs.evolve(problem, where=place(problem.where)) for problem in error.problems)
