"""Collect the results of work on many files, of which any may fail without stopping the rest, and report them at the
end.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from ltxcore.api import DataError, Problem


@attrs.frozen
class Tally:
    """The number of files that were made, the number that already existed, and the problems of files that failed."""

    done: int = 0
    reused: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes for the user that are not about mistakes."""

    def __str__(self) -> str:
        failed = f", {len(self.problems)} failed" if self.problems else ""
        return f"{self.done} made, {self.reused} reused{failed}"

    def tell(self, output: Path) -> None:
        """Print the counts, and raise an error for files that failed.

        Raises:
            DataError: a file failed.
        """
        click.echo(f"{self} in {output}")
        for note in self.notes:
            click.echo(note)
        if self.problems:
            raise DataError.of(self.problems)
