"""A bar for each phase, on the error stream, so that the output can go to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Phase = Callable[[str, int], Callable[[], None]]
"""Starts a phase: its name and how many steps it has; what comes back is called after each step."""


@contextmanager
def bars(shown: bool) -> Iterator[Phase]:
    """Progress of several phases, one after the other; `shown` False keeps quiet."""
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:

        def phase(name: str, steps: int) -> Callable[[], None]:
            task = progress.add_task(name, total=steps)
            return lambda: progress.advance(task)

        yield phase
