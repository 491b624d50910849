"""The results of work on many files, where a bad file affects only itself, and the report at the end."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from ltxcore.api import DataError, Problem


@attrs.frozen
class Tally:
    """The numbers of files that were made and that existed already, and the problems of those that failed."""

    done: int = 0
    reused: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes that are not mistakes but useful to know."""

    def __str__(self) -> str:
        failed = f", {len(self.problems)} failed" if self.problems else ""
        return f"{self.done} made, {self.reused} reused{failed}"

    def tell(self, output: Path) -> None:
        """Print the counts; failures are raised as an error after everything else is done.

        Raises:
            DataError: something failed.
        """
        click.echo(f"{self} in {output}")
        for note in self.notes:
            click.echo(note)
        if self.problems:
            raise DataError.of(self.problems)
