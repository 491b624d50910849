"""How a command ends that works on many files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.errors import DataError

if TYPE_CHECKING:
    from ltxcore.prepare.work import Tally


def tell(tally: Tally, output: Path) -> None:
    """Print the counts; what failed is an error, after all else is done.

    Raises:
        DataError: something failed.
    """
    click.echo(f"{tally} in {output}")
    for note in tally.notes:
        click.echo(note)
    if tally.problems:
        raise DataError.of(tally.problems)
