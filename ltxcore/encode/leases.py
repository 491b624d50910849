"""Leases, by which several processes encode one dataset together, on one machine or on several with a shared folder.

Each process has a place in the folder of encoded samples: a file that names the process, and that the process touches regularly, as the
writer of any folder does (see `ltxcore.writer`). Before a process encodes a clip or a caption, it takes a lease on it: a small file that
names the process's place. Creating such a file either succeeds or finds the file of another process, also on network file systems.

The folder of leases also keeps the number of every process that has taken a lease, until the last process has finished: the others read what
a process has made in the manifest with its number, also if it is gone before they look.

A lease holds as long as its process holds its place. If a process is gone, others take over its leases. If it was only believed to be
gone, because its machine stood still or a clock was set, two processes encode one sample. This does no harm, since both make the same
bytes, and a file is replaced as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, count
from pathlib import Path

import attrs

from ltxcore.errors import DataError, ProcessError
from ltxcore.files import read_regular
from ltxcore.logs import inform
from ltxcore.writer import POLL, STALE, Holder, Writer, age_of, bury, create, file_name, holder_at, is_gone, numbers_in, refusal, writing

FOLDER = ".leases"
"""The folder of leases, in the folder of encoded samples."""

TAKE_OVER = "--take-over"
"""The command line option that takes a place over from another process."""

NUMBER = ".number"
"""The ending of the empty files that keep the numbers of processes, in the folder of leases."""

TRIES = 5
"""How often a process tries to take a lease if others take it over, or remove it, at the same moment."""


@attrs.define(eq=False)
class Lease:
    """A lease that this process holds. It is a context manager, which ends the lease.

    Attributes:
        path: the file; None if nothing has to be leased.
        text: the content of the file, which names this process.
    """

    path: Path | None
    text: bytes = b""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                if self.path.read_bytes() == self.text:  # otherwise another process took it over
                    self.path.unlink()


@attrs.define(eq=False)
class Leases:
    """This process as one of those that encode into a folder. Several threads may use one instance.

    Attributes:
        root: the folder of encoded samples.
        number: the number of this process's place, which is different for all processes that encode at the same time.
        writer: this process's place; None if the folder cannot be written, or no other process takes part.
        more: places that this process took over from processes that made something else, which end when they see it.
    """

    root: Path
    number: int = 0
    writer: Writer | None = None
    more: tuple[Writer, ...] = ()
    _beats: dict[str, tuple[float, float]] = attrs.field(factory=dict, init=False)

    def take(self, what: str) -> Lease | None:
        """Take the lease on a piece of work; None if another process holds it.

        Args:
            what: a name for the piece of work, which is the same in all processes.

        Raises:
            DataError: the folder cannot be written.
        """
        if self.writer is None:
            return Lease(None)
        path = self.root / FOLDER / f"{hashlib.sha256(what.encode(errors='surrogatepass')).hexdigest()[:32]}.json"
        text = json.dumps({"place": self.number, "token": self.writer.holder.token}).encode()
        for _ in range(TRIES):
            try:
                path.parent.mkdir(exist_ok=True)
                (path.parent / f"{self.number}{NUMBER}").touch()
                create(path, lambda _: text)
            except FileExistsError:
                found = _content(path)
                if found is not None and self._is_held(found, path):
                    return None
                if found is not None:
                    self._take_over(path, found)
            except FileNotFoundError:  # the last process to finish has just removed the folder
                continue
            except OSError as error:
                raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from error
            else:
                return Lease(path, text)
        return None

    @property
    def are_taken(self) -> bool:
        """Whether this process or another one has taken leases in the folder, and not all processes have finished since."""
        return self.writer is not None and (self.root / FOLDER).is_dir()

    def others(self) -> list[Holder | None]:
        """Return the other processes that have a place in the folder and are not gone; None is an unknown process."""
        found = [(path, holder_at(path)) for path in self.root.glob(file_name("*"))]
        own = {each.path for each in (self.writer, *self.more) if each is not None}
        return [holder for path, holder in found if path not in own and not self._is_gone(holder, path)]

    def finish(self, last: Callable[[], object]) -> None:
        """Give up this process's place. If no other process has a place, first do `last`, since this process is the last one.

        Raises:
            DataError: the folder cannot be written.
        """
        if self.writer is None:
            return
        while (lease := self.take("finish")) is None:
            time.sleep(POLL / 10)
        with lease:
            if not self.others():
                last()
                self._clear()
            for each in (self.writer, *self.more):
                each.release()
        with contextlib.suppress(OSError):  # another process has leases by now
            (self.root / FOLDER).rmdir()

    def _clear(self) -> None:
        """Remove the leases and places that killed processes left, and the numbers of processes that are gone."""
        for path in (*(self.root / FOLDER).glob("*.json"), *self.root.glob(file_name("*"))):
            found = _content(path)
            if found is None:
                continue
            is_left = self._is_gone(holder_at(path), path) if path.parent == self.root else not self._is_held(found, path)
            if is_left:
                bury(path, partial(_is_same, found))
        for path in (self.root / FOLDER).glob(f"[0-9]*{NUMBER}"):
            place = self.root / file_name(int(path.stem))
            if path.stem == str(self.number) or self._is_gone(holder_at(place), place):
                path.unlink(missing_ok=True)

    def _is_held(self, text: bytes, path: Path) -> bool:
        named = _named(text)
        if named is None:  # incomplete, on a file system where a file cannot be created as a whole
            age = age_of(path)
            return age is not None and age <= STALE
        number, token = named
        place = self.root / file_name(number)
        holder = holder_at(place)
        return holder is not None and holder.token == token and not self._is_gone(holder, place)

    def _is_gone(self, holder: Holder | None, place: Path) -> bool:
        """Return whether a process is gone; one on another machine is, too, if the time of its file stays in the future."""
        try:
            age, touched = age_of(place), place.stat().st_mtime
        except OSError:
            return True
        if age is None or is_gone(holder, place, age):
            return True
        if holder is None or holder.is_here:
            return False
        now = time.monotonic()
        before, since = self._beats.get(holder.token, (None, now))
        if before != touched:
            self._beats[holder.token] = touched, now
        return before == touched and now - since > STALE

    def _take_over(self, path: Path, text: bytes) -> None:
        bury(path, partial(_is_same, text))
        named = _named(text)
        if named is None:
            return
        number, token = named
        place = self.root / file_name(number)
        holder = holder_at(place)
        if holder is not None and holder.token == token:
            bury(place, partial(_is_of, token))
            inform(f"{self.root}: the work of {holder} is taken over, since that process is gone")


def numbers_of_processes(root: Path) -> set[int]:
    """Return the numbers of the processes that encode into a folder, or have done so since it was last finished."""
    return numbers_in(root) | {int(path.stem) for path in (root / FOLDER).glob(f"[0-9]*{NUMBER}")}


def work_text(facts: Mapping[str, str]) -> str:
    """Describe what a process makes, for the others to see, by facts such as the fingerprints of its codecs; "" is an unknown fact.

    A dataset's processes need not know the same facts: one may make only captions, and another only latents.
    """
    short = {name: hashlib.sha256(fact.encode()).hexdigest()[:12] for name, fact in facts.items() if fact}
    return " ".join(f"{name}={fact}" for name, fact in sorted(short.items()))


def sole_work() -> str:
    """Describe, as `work_text` does, the work of a process beside which no other process may encode."""
    return f"dataset=none-{uuid.uuid4().hex}"


def differs(one: str, other: str) -> bool:
    """Return whether two processes make different things, so that they must not encode into one folder at the same time."""
    first, second = (dict(part.split("=", 1) for part in text.split() if "=" in part) for text in (one, other))
    return any(first[name] != second[name] for name in first.keys() & second.keys())


@contextlib.contextmanager
def joined(
    root: Path,
    number: int,
    beyond: int,
    work: str,
    *,
    take_over: bool = False,
    waiting: Callable[[], object] | None = None,
    option: str = TAKE_OVER,
) -> Iterator[Leases]:
    """Become one of the processes that encode into a folder, which is created if it does not exist.

    Args:
        root: the folder of encoded samples.
        number: the number of the place to take.
        beyond: the first number to try if this place is taken by another process that does the same work.
        work: what this process makes, as `work_text` returns it.
        take_over: whether to end a process that has this place, and all processes that make something else there.
        waiting: a function that is called each second while this process waits for processes that make something else; if it is None, an
            error is raised instead.
        option: the command line option that takes the folder over, for the error; "" if there is none.

    Raises:
        ProcessError: a process makes something else in this folder.
        OSError: the folder cannot be written.
    """
    told = False
    with contextlib.ExitStack() as stack:
        while True:
            rivals = _rivals(root, number, work)
            if rivals and not take_over:
                _wait(rivals[0], waiting, told, option)
                told = True
                continue
            place = next(each for each in chain([number], count(beyond)) if take_over or _is_free(root / file_name(each)))
            places = {place, *(int(path.stem.rpartition("-")[2]) for path, _ in rivals)}
            try:
                writers = {each: stack.enter_context(writing(root, rank=each, takes_over=take_over, work=work)) for each in sorted(places)}
            except ProcessError:  # another process was faster
                stack.pop_all().close()
                time.sleep(POLL / 20)
                continue
            leases = Leases(root, place, writers.pop(place), tuple(writers.values()))
            # Of two processes that begin at the same time and make different things, the one with the lower number stays.
            if take_over or not any(path.name < file_name(place) for path, _ in _rivals(root, number, work, root / file_name(place))):
                break
            stack.pop_all().close()
        others = len(leases.others())
        if others:
            inform(f"{root}: {others} other process{'es encode' if others > 1 else ' encodes'} this dataset too, and the work is shared")
        yield leases


def _wait(rival: tuple[Path, Holder | None], waiting: Callable[[], object] | None, told: bool, option: str) -> None:
    path, holder = rival
    if waiting is None:
        raise refusal(path, holder, age_of(path) or 0.0, option)
    if not told:
        inform(f"waiting for {holder or 'another process'}, which writes to {path.parent}")
    waiting()
    time.sleep(POLL)


def _rivals(root: Path, number: int, work: str, own: Path | None = None) -> list[tuple[Path, Holder | None]]:
    """Return the processes that are not gone and make something else in a folder, except the one with the place `own`. A process that does
    not tell what it makes, such as one of an older version, makes something else if it has the place that this process wants.
    """
    found = []
    for path in sorted(root.glob(file_name("*"))):
        holder, age = holder_at(path), age_of(path)
        if path == own or age is None or is_gone(holder, path, age):
            continue
        if differs(holder.work, work) if holder is not None and holder.work else path.name == file_name(number):
            found.append((path, holder))
    return found


def _is_free(path: Path) -> bool:
    age = age_of(path) if path.exists() else None
    return age is None or is_gone(holder_at(path), path, age)


def _content(path: Path) -> bytes | None:
    try:
        return read_regular(path)
    except OSError:
        return None


def _named(text: bytes) -> tuple[int, str] | None:
    """Return the number of a place and the token of its process, as a lease names them; None if the lease is incomplete."""
    try:
        told = json.loads(text)
        number, token = told["place"], told["token"]
    except (ValueError, TypeError, KeyError):
        return None
    return (number, token) if type(number) is int and isinstance(token, str) else None


def _is_same(text: bytes, path: Path) -> bool:
    return _content(path) == text


def _is_of(token: str, path: Path) -> bool:
    """Return whether the place at a path belongs to the process with this token, or to an unknown process."""
    holder = holder_at(path)
    return holder is None or holder.token == token
