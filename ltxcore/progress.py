"""Show progress bars on the error stream if it is a terminal, so that the output itself can go to a file.

A program that starts `ltx` without a terminal can name a file in the environment variable LTX_PROGRESS instead. While
work goes on, the file tells how much of it is done, as JSON; for example {"name": "clips", "done": 3, "steps": 8}. Between two pieces of
work, there is no file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
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

FILE = "LTX_PROGRESS"
"""The environment variable that names a file to which progress is written."""

NOTED_SECONDS = 0.5
"""The least number of seconds from one change of the file to the next."""


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
    `shown` False, no bars are shown; by default, they are shown on a terminal. The file of LTX_PROGRESS takes their place.
    """
    if shown is not False and (path := _file()) is not None:
        with contextlib.closing(_Note(path)) as note:

            def noted(name: str, steps: int) -> Callable[[], None]:
                note.begin(name, steps)
                return lambda: note.show(note.done + 1)

            yield noted
        return
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


@attrs.define
class _Note:
    """Progress that is written to a file. A disk that is full does not end the work: the file then tells of an earlier moment."""

    path: Path
    name: str = ""
    steps: int = 0
    done: int = 0
    _written: float = 0.0

    def begin(self, name: str, steps: int) -> None:
        self.name, self.steps, self.done = name, steps, 0
        self._write()

    def show(self, done: int) -> None:
        self.done = done
        if time.monotonic() - self._written >= NOTED_SECONDS:
            self._write()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._written = time.monotonic()
        with contextlib.suppress(OSError):
            beside = self.path.with_name(f"{self.path.name}.new")
            beside.write_text(json.dumps({"name": self.name.strip("[]"), "done": self.done, "steps": self.steps}), encoding="utf-8")
            beside.replace(self.path)


def _file() -> Path | None:
    """Return the file to which this process writes its progress; None if there is none. Of several processes, the first writes."""
    named = os.environ.get(FILE)
    return Path(named) if named and os.environ.get("RANK", "0") == "0" else None


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
