"""Work on many files of which a bad one loses only itself, and what is said in the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import attrs
import click

from ltxcore.api import DataError, LtxError, Problem

I = TypeVar("I")  # noqa: E741 (an item)
R = TypeVar("R")

MOST_WORKERS = 8


@attrs.frozen
class Tally:
    """What was made, what was there already, and what failed, each with the reason."""

    done: int = 0
    reused: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What is no mistake but good to know."""

    def __str__(self) -> str:
        failed = f", {len(self.problems)} failed" if self.problems else ""
        return f"{self.done} made, {self.reused} reused{failed}"

    def tell(self, output: Path) -> None:
        """Print the counts; what failed is an error, after all else is done.

        Raises:
            DataError: something failed.
        """
        click.echo(f"{self} in {output}")
        for note in self.notes:
            click.echo(note)
        if self.problems:
            raise DataError.of(self.problems)


def usual_workers() -> int:
    """One a processor, at most 8."""
    return min(os.cpu_count() or 1, MOST_WORKERS)


def each(items: Sequence[I], work: Callable[[I], R], workers: int = 1) -> Iterator[tuple[I, R | LtxError]]:
    """What `work` makes of each item, or the error that it met, as they are done; `work` is called in `workers` threads at a time."""
    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except LtxError as error:
                yield futures[future], error
    finally:
        pool.shutdown(cancel_futures=True)
