"""Lock a folder so that only one process at a time writes to it. A file in the folder names the process, which touches
the file regularly for as long as it lives.

A process can be examined only on its own machine. A process on another machine, or in another container, counts as gone
if it has not touched its file for some time. This time is measured by the clock of the file system, since the clocks of
machines differ.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import attrs

from ltxcore.errors import ProcessError
from ltxcore.files import UNFINISHED, read_regular
from ltxcore.logs import inform
from ltxcore.pids import is_alive, machine, started

BEAT = 30.0
"""The number of seconds between signs of life."""

STALE = 300.0
"""The number of seconds without a sign of life after which a process on another machine counts as gone."""

POLL = 1.0
"""The number of seconds between checks of the file of a process that this process waits for."""


@attrs.frozen
class Holder:
    """The process that writes to a folder.

    Attributes:
        host: the name of the process's machine.
        boot: an id of the machine's last start, if the system tells it; the id distinguishes machines with the same
            name.
        space: the namespace of the process number, if the system tells it; each container has its own namespace.
        pid: the process number in this namespace.
        started: the time when the process started, in the system's own units; it distinguishes the process from a later
            one with the same number.
        since: the time when the process began to write, in a form for people.
        inode: the inode of the process's file, which is different in a copy of the folder.
        token: a random token, which is new each time that the process begins to write.
        work: what the process makes, if several processes may make it together; "" if it writes alone.
    """

    host: str
    boot: str
    space: str
    pid: int
    started: str
    since: str
    inode: int = 0
    token: str = ""
    work: str = ""

    @classmethod
    def here(cls, work: str = "") -> Holder:
        """Describe this process."""
        since = datetime.datetime.now().astimezone().isoformat(" ", timespec="seconds")
        pid = os.getpid()
        return cls(*machine(), pid, started(pid) or "", since, token=uuid.uuid4().hex, work=work)

    @property
    def is_here(self) -> bool:
        """Whether the process runs in the same place as this process, so that its number is valid here."""
        return (self.host, self.boot, self.space) == machine()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; only valid if it `is_here`."""
        return is_alive(self.pid, self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@attrs.define(eq=False)
class Writer:
    """This process as the writer of a folder.

    Attributes:
        path: the file that names the writer.
        holder: the process that the file names, which is this process.
    """

    path: Path
    holder: Holder
    _end: threading.Event = attrs.field(factory=threading.Event, init=False, repr=False)
    _lost: str = attrs.field(default="", init=False)

    def check(self, looks: bool = True) -> None:
        """Check that no other process has taken the folder over.

        Args:
            looks: whether to look at the file now; otherwise, rely on what the last sign of life showed.

        Raises:
            ProcessError: another process has taken over the folder.
        """
        if looks and not self._lost:
            self._look()
        if self._lost:
            raise ProcessError(
                f"this process ends, because the folder was taken over by {self._lost}",
                where=str(self.path.parent),
                remedy="Only one process can write to a folder. What was saved before that is intact.",
            )

    def beat(self) -> None:
        """Give signs of life until the writer is released."""
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):  # a network file system may be temporarily unavailable
                self._look()
                if not self._lost:
                    os.utime(self.path)

    def _look(self) -> None:
        found = holder_at(self.path)
        if found is not None and found.token != self.holder.token:
            self._lost = str(found)
        elif found is None and self.path.parent.is_dir() and not os.path.lexists(self.path):  # somebody removed it
            with contextlib.suppress(FileExistsError):
                _put(self.path, self.holder)

    def release(self) -> None:
        self._end.set()
        with contextlib.suppress(OSError):
            found = holder_at(self.path)
            if found is not None and found.token == self.holder.token:
                self.path.unlink()


@contextlib.contextmanager
def writing(
    folder: Path,
    *,
    rank: int = 0,
    takes_over: bool = False,
    waiting: Callable[[], object] | None = None,
    name: str = "",
    work: str = "",
) -> Iterator[Writer]:
    """Become the writer of a folder, which is created if it does not exist.

    Args:
        folder: the folder to write to.
        rank: the number of this process among the processes that share the work; each process has a file of its own.
        takes_over: whether to end the process that currently writes to the folder.
        waiting: a function that is called each second while this process waits for the current writer; with None, an
            error is raised instead.
        name: the command line option that takes over the folder, for the message.
        work: what is made, if several processes may make it together.

    Raises:
        ProcessError: another process writes to the folder.
        OSError: the folder cannot be written.
    """
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(rank)
    try:
        holder = _taken(path, Holder.here(work), takes_over, waiting, name)
        writer = Writer(path, holder)
        threading.Thread(target=writer.beat, name=f"beat of {path}", daemon=True).start()
        try:
            yield writer
        finally:
            writer.release()
    finally:
        with contextlib.suppress(OSError):  # the folder is not empty
            for each in made:
                each.rmdir()


def file_name(rank: int | str = 0) -> str:
    """Return the name of the file that names the writer; "*" in place of a number makes a pattern for the files of all writers."""
    return f".writer-{rank}.json"


def numbers_in(folder: Path) -> set[int]:
    """Return the numbers of the processes that have a file in a folder, whether or not they still write."""
    found = (path.stem.rpartition("-")[2] for path in folder.glob(file_name("*")))
    return {int(number) for number in found if number.isdecimal()}


def _taken(path: Path, own: Holder, takes_over: bool, waiting: Callable[[], object] | None, option: str) -> Holder:
    """Create this process's file, and return this process. If another process has a file, wait for that process or take over from it, as
    requested.
    """
    told = False
    while True:
        try:
            return _put(path, own)
        except FileExistsError:
            pass
        found, age = holder_at(path), age_of(path)
        if age is None:  # the file is gone by now
            continue
        if takes_over or is_gone(found, path, age):
            who = str(found) if found is not None else "an unknown process"
            bury(path, partial(_is_same, found))
            inform(f"{path.parent} is taken over from {who}")
            takes_over = False
        elif waiting is not None:
            if not told:
                inform(f"waiting for {found or 'another process'}, which writes to {path.parent}")
                told = True
            waiting()
            time.sleep(POLL)
        else:
            raise refusal(path, found, age, option)


def writer_of(folder: Path) -> Holder | None:
    """Return the process that writes to a folder, such as the run that writes to its output folder; None if no process does. Nothing is
    written to the folder: whether a process of another machine is gone is told by this machine's clock.
    """
    path = folder / file_name()
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    found = holder_at(path)
    return None if is_gone(found, path, age) else found


def refusal(path: Path, found: Holder | None, age: float, option: str) -> ProcessError:
    """Make the error for a folder that another process writes to. `option` is the command line option that takes the folder over."""
    force = f", or take the folder over: {option}" if option else ""
    if found is not None and found.is_here:
        what, remedy = f"is being written by {found}", f"Wait for it to finish, end it{force}."
    else:
        who = found or "an unknown process"
        what = f"is being written by {who}, which last showed a sign of life {max(0.0, age):.0f} seconds ago"
        remedy = f"Wait for it to finish. If it is gone, wait until its last sign of life is older than {STALE / 60:.0f} minutes{force}."
    return ProcessError(what, where=str(path.parent), remedy=remedy)


def is_gone(found: Holder | None, path: Path, age: float) -> bool:
    """Return whether a process that `path` names is gone, if the file was touched `age` seconds ago; None is an unknown process."""
    if found is None or not found.is_here:
        return age > STALE
    with contextlib.suppress(OSError):
        return not found.is_alive or path.stat().st_ino != found.inode
    return False


def _put(path: Path, holder: Holder) -> Holder:
    """If there is no file yet, create it with its whole content at once.

    Raises:
        FileExistsError: the file exists.
    """

    def text(inode: int) -> bytes:
        return json.dumps(attrs.asdict(attrs.evolve(holder, inode=inode)), indent=1).encode()

    return attrs.evolve(holder, inode=create(path, text))


def create(path: Path, text: Callable[[int], bytes]) -> int:
    """If there is no file yet, create it with its whole content at once, and return its inode.

    Args:
        path: the file.
        text: a function that returns the content of a file with this inode.

    Raises:
        FileExistsError: the file exists.
        OSError: the file cannot be written.
    """
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.write(text(inode))
        path.hardlink_to(beside)
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links, or the disk is full, which the next write reports
        with path.open("xb") as file:
            try:
                inode = os.fstat(file.fileno()).st_ino
                file.write(text(inode))
                file.flush()
            except OSError:
                path.unlink()
                raise
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    return inode


def bury(path: Path, is_same: Callable[[Path], bool]) -> None:
    """Remove the file of a process that is gone. If several processes try, only one succeeds.

    Args:
        path: the file.
        is_same: a function that returns whether the file, which has been renamed, is still the one that was looked at, and not that of
            another process that was faster.
    """
    grave = _beside(path)
    with contextlib.suppress(FileNotFoundError):
        path.rename(grave)
        if not is_same(grave):
            with contextlib.suppress(OSError):
                path.hardlink_to(grave)
        grave.unlink()


def _is_same(found: Holder | None, path: Path) -> bool:
    taken = holder_at(path)
    return taken is None or found is None or taken.token == found.token


def age_of(path: Path) -> float | None:
    """Return the number of seconds since a file was touched, by the clock of its file system; None if there is no such
    file.
    """
    beside = _beside(path)
    try:
        beside.write_bytes(b"")
        return beside.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}{UNFINISHED}")


def holder_at(path: Path) -> Holder | None:
    """Read which process a file names; None if the file does not exist or is incomplete."""
    try:
        holder = Holder(**json.loads(read_regular(path)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    is_sound = all(
        isinstance(getattr(holder, field.name), int if field.name in ("pid", "inode") else str) for field in attrs.fields(Holder)
    )
    return holder if is_sound and holder.pid > 0 else None
