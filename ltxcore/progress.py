"""Show progress bars on the error stream if it is a terminal, so that the output itself can go to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import attrs

from ltxcore.logs import inform, is_quiet

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

Phase = Callable[[str, int], Callable[[], None]]
"""A function that starts a phase, given its name and number of steps, and returns a function to call after each step."""

_FORCING = frozenset({"FORCE_COLOR", "TTY_COMPATIBLE"})
"""The environment variables that make rich treat any stream as a terminal."""


def is_shown() -> bool:
    """Return whether the error stream is a terminal and the user wants to see more than warnings."""
    if is_quiet() or not (_FORCING & os.environ.keys() or _is_terminal()):  # does not import rich, which would take longer than this check
        return False
    from rich.console import Console

    return Console(stderr=True).is_terminal


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # the stream is closed
        return False


@contextmanager
def bars(shown: bool | None = None) -> Iterator[Phase]:
    """Show a bar for each of several phases, one after the other. The bars remain when the phases are done. With
    `shown` False, no bars are shown; by default, they are shown on a terminal.
    """
    if not (is_shown() if shown is None else shown and not is_quiet()):
        yield lambda name, steps: lambda: None
        return
    with _display(stays=True) as display:

        def phase(name: str, steps: int) -> Callable[[], None]:
            task = display.add_task(f"{name:<9}", total=steps, numbers="")
            return lambda: display.advance(task)

        yield phase


def counted(items: Collection[T], name: str) -> Iterator[T]:
    """Yield items, and show a bar of those that are done, as a phase with this name."""
    with bars() as phase:
        step = phase(name, len(items))
        for item in items:
            yield item
            step()


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Say what is being done. On a terminal, a single line also shows the time, and is removed at the end; elsewhere,
    each piece of work gets a line.
    """
    if not is_shown():
        yield inform
        return
    with _display(counts=False) as display:
        task = display.add_task("", total=None)
        yield lambda text: display.update(task, description=text)


@attrs.frozen
class Bar:
    """A progress bar, which is removed when the work is done."""

    _display: Progress
    _task: TaskID

    @classmethod
    def begun(cls, name: str, steps: int, done: int = 0) -> Bar | None:
        """Start a bar, which the caller must end; None if the error stream is not a terminal."""
        if not is_shown():
            return None
        display = _display()
        display.start()
        return cls(display, display.add_task(name, total=steps, completed=done, numbers=""))

    def show(self, done: int, numbers: str = "", name: str | None = None) -> None:
        """Show the number of steps done, further numbers, and the name of the work if it has changed."""
        self._display.update(self._task, completed=done, numbers=numbers, description=name)

    def end(self) -> None:
        """Remove the bar."""
        self._display.stop()


def _display(*, stays: bool = False, counts: bool = True) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        *(() if counts else (SpinnerColumn(),)),
        TextColumn("{task.description}", markup=False),
        *((BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}", markup=False)) if counts else ()),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if counts else ()),
        console=Console(stderr=True),
        transient=not stays,
    )
