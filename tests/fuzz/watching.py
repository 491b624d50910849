"""What a trial ends with: words, or what they ought to have been; whether it took too long, and whether it wrote where nothing is to be written."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ltxcore.errors import LtxError

PROCESSOR_SECONDS, SECONDS, IDLE = 20, 10, 0.05
"""A trial hangs that computes for so long; or that waits so long while it computes for less than a twentieth of a second, however busy the machine is."""

BARE = re.compile(r"(.*: )?-?\d{0,12}\s*(\n.*)?|.*\[Errno \d+\].*", re.DOTALL)
"""Messages that say nothing: empty, a number, or as Python has it."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OTHERS = ("__pycache__", "torchinductor_")
"""What Python and torch write when they are imported."""

CHANGES = {
    "os.mkdir": 0,
    "os.rename": 1,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.symlink": 1,
    "os.link": 1,
    "os.truncate": 0,
    "os.chmod": 0,
    "shutil.rmtree": 0,
}


class Hang(BaseException):
    """The trial takes too long."""


class Writes:
    """Whatever the process writes outside a folder, while it is watched. There is one of them in a process, since Python takes no hook back."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.found: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, mode, flags = arguments
            if not (flags & WRITING if isinstance(flags, int) else set(str(mode)) & set("wax+")):
                return
        elif event in CHANGES:
            path = arguments[CHANGES[event]]
        else:
            return
        if isinstance(path, int):
            return
        place = os.path.normpath(Path.cwd() / os.fsdecode(path))
        if not place.startswith((self.folder, "/dev/", "/proc/")) and not any(each in place for each in OTHERS):
            self.found.append(f"{event} {place}")


_writes: list[Writes] = []


@contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    if not _writes:
        _writes.append(Writes())
    (writes,) = _writes
    writes.folder, writes.found = str(folder), []
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder)

    spent = time.process_time()

    def look(*_: Any) -> None:
        nonlocal spent
        before, spent = spent, time.process_time()
        if spent - before < IDLE:
            raise Hang

    def stop(*_: Any) -> None:
        raise Hang

    before = [signal.signal(signal.SIGALRM, look), signal.signal(signal.SIGVTALRM, stop)]
    timer = signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    signal.setitimer(signal.ITIMER_VIRTUAL, PROCESSOR_SECONDS)
    try:
        yield writes.found
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGVTALRM, before[1])
        signal.setitimer(signal.ITIMER_REAL, *timer)  # that of the test itself
        writes.folder, tempfile.tempdir = None, temporary


def fault(trial: Callable[[], str], folder: Path) -> tuple[str, str]:
    """What a trial said, and what is wrong with that; the latter "" where nothing is.

    Args:
        trial: raises, or returns what it told the user where it ended as commands do.
        folder: that alone may be written to.
    """
    said = wrong = ""
    with _watched(folder) as written:
        try:
            said = trial()
        except LtxError as error:
            said = str(error)
            wrong = next((f"says nothing: {problem}" for problem in error.problems if BARE.fullmatch(problem.what)), "")
        except click.UsageError as error:
            said = error.format_message()
        except Hang:
            wrong = f"hangs: {_place(sys.exc_info()[2])}"
        except (Exception, SystemExit) as error:  # noqa: BLE001 (it is what is looked for)
            said = " ".join(getattr(error, "__notes__", ()))
            if "This is a mistake in the condition" not in said:  # of a plugin that was changed: its author wants the traceback
                wrong = f"{type(error).__name__}: {str(error)[:200]!r} at {_place(error.__traceback__)}"
    if not wrong and written:
        wrong = f"writes: {written[0]}"
    return said, wrong


def _place(trace: Any) -> str:
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if "ltxcore" in frame.filename or "ltxplugins" in frame.filename]
    last = own[-1] if own else frames[-1]
    return f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno} {last.name}"
