"""Says that this process lives, and looks whether the others do: two threads beside the one that trains (`engines.alive` has what they go by)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import attrs
import psutil  # type: ignore[import-untyped, unused-ignore]

from ltxcore.devices import SHARED
from ltxcore.engines.alive import LONGER, TOLD, Beat, Hang, Progress, spelled, verdict
from ltxcore.errors import Problem
from ltxcore.pids import is_alive, started

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

BEAT = 10.0
"""Seconds from one beat to the next; less where the patience is short, more where there are many processes."""

BUSY = 0.05
"""Share of a processor above which a process that loads, encodes or saves counts as moving."""

SEEN_LAST = 10.0
"""Seconds in which the message has to be written before the process ends without it: a terminal may hang too."""


@attrs.define(eq=False)
class Watch:
    """Says that this process lives, and looks whether the others do, and its launcher.

    Attributes:
        rank: of this process.
        world_size: how many there are.
        store: where they meet; None where there is one.
        progress: of this process.
        patience: seconds without a sign of life, or of progress, after which a process hangs; 0: no limit.
        goes_on: what a user is told to do then.
        launchers: those of the processes above this one with which it ends, by number, and when each started; none: it was started in another way.
    """

    rank: int
    world_size: int
    store: Store | None
    progress: Progress
    patience: float
    goes_on: Callable[[], str]
    launchers: Mapping[int, str] = attrs.field(factory=lambda: launchers())
    _seen: dict[int, tuple[str, Beat | None, float]] = attrs.field(factory=dict, init=False)
    _reached: float = attrs.field(factory=time.monotonic, init=False)
    _over: threading.Event = attrs.field(factory=threading.Event, init=False)
    _threads: list[threading.Thread] = attrs.field(factory=list, init=False)
    _busy: tuple[float, float] = attrs.field(factory=lambda: (time.monotonic(), time.process_time()), init=False)

    @property
    def period(self) -> float:
        """Seconds between beats."""
        return max(min(BEAT, self.patience / 5 if self.patience else BEAT), self.world_size / 8 if self.world_size > 64 else 0)

    def start(self) -> None:
        """Begin; the main thread calls this."""
        main = threading.get_ident()
        now = time.monotonic()
        self._seen = dict.fromkeys(range(self.world_size), ("", None, now))
        works: list[Callable[[], None]] = [self._look] if self.launchers or self.store is not None else []
        if self.store is not None and self.patience:
            store = own_connection(self.store)
            works.append(lambda: self._beat(store, main))
        for work in works:
            self._threads.append(threading.Thread(target=work, daemon=True, name="ltx-alive"))
            self._threads[-1].start()

    def stop(self) -> None:
        """End: this process has done its part."""
        self._over.set()
        self.progress.news.set()
        for thread in self._threads:
            thread.join(timeout=2)

    # ---- saying

    def _beat(self, store: Store, main: int) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self.progress.news.clear()
            try:
                store.set(f"beat/{self.rank}", self._said(number, self.now(main)))
                self._hear(store)
            except RuntimeError:  # the connection is gone, or the store with the process that held it, which others notice
                store = self._again(store)
            self.progress.news.wait(self.period)
        with contextlib.suppress(RuntimeError):
            store.set(f"beat/{self.rank}", self._said(number + 1, Beat(what=self.progress.what, is_over=True)))

    def _again(self, store: Store) -> Store:
        try:
            return own_connection(store)
        except RuntimeError:
            return store

    def _said(self, number: int, beat: Beat) -> str:
        return json.dumps({"number": number, **attrs.asdict(beat)})

    def now(self, main: int) -> Beat:
        """What this process does now; `main` is the number of its main thread."""
        now, used = time.monotonic(), time.process_time()
        if self.progress.is_long and used - self._busy[1] > BUSY * (now - self._busy[0]):
            self.progress.at = now
        self._busy = now, used
        frames = sys._current_frames()
        waits = any(is_waiting(frame) for frame in frames.values())
        progress = self.progress
        place = place_of(frames.get(main))
        idle = time.monotonic() - progress.at
        return Beat(
            what=progress.what,
            is_long=progress.is_long,
            moves=progress.moves,
            idle=idle,
            waits=waits,
            where=place,
            pid=os.getpid(),
            host=os.uname().nodename,
        )

    # ---- looking

    def _hear(self, store: Store) -> None:
        for rank in range(self.world_size):
            if store.check([f"beat/{rank}"]):
                text = store.get(f"beat/{rank}").decode()
                if text != self._seen[rank][0]:
                    self._seen[rank] = text, _beat_of(text), time.monotonic()
        if store.check(["hangs"]):
            self._leave(self._hung(json.loads(store.get("hangs"))))
        self._reached = time.monotonic()

    def _look(self) -> None:
        """Until the run is over: whether the launcher is there, and whether someone hangs."""
        pause = min(1.0, self.period)
        looked = time.monotonic()
        while not self._over.wait(pause):
            now = time.monotonic()
            if not all(is_alive(*each) for each in self.launchers.items()):
                self._orphaned()
                return  # the store is mostly gone with it
            if now - looked > 5 * pause + self.period:
                # This process was stopped itself, or starved, so that it has not heard the others: from here on.
                self._seen = {rank: (text, beat, now) for rank, (text, beat, _) in self._seen.items()}
                self._reached = now
            looked = now
            if self.store is not None and self.patience and not self._over.is_set():
                found = self._judged(now)
                if found is not None:
                    self._end(found)

    def _judged(self, now: float) -> Hang | None:
        if now - self._reached <= self.patience:
            # As it was when the store answered last: while it does not, nobody seems to say anything.
            return verdict({rank: (beat, self._reached - at) for rank, (_, beat, at) in self._seen.items()}, self.patience)
        if now - self.progress.at <= self.patience * (LONGER if self.progress.is_long else 1):
            return None  # the store does not answer, yet this process moves, so the others do
        holder = "the launcher" if "TORCHELASTIC_RUN_ID" in os.environ else "process 0"
        return Hang(
            () if holder == "the launcher" or self.rank == 0 else (0,),
            f"{holder}, by which the processes of this run meet, gives no sign of life for {spelled(now - self._reached)}",
        )

    def _orphaned(self) -> None:
        if self.rank == 0:
            _write("the launcher of this run is gone, so the run ends too; what it has trained is saved first\n")
        os.kill(os.getpid(), signal.SIGTERM)

    # ---- ending

    def _end(self, hang: Hang) -> None:
        """Tell, unless another process does, and end."""
        teller = threading.Thread(target=self._tell, args=(hang,), daemon=True)
        teller.start()
        teller.join(SEEN_LAST)
        self._leave(self._hung(hang.ranks))

    def _tell(self, hang: Hang) -> None:
        assert self.store is not None
        store: Store | None = None
        try:
            store = own_connection(self.store)
            store.set("told", "1")
            if store.add("telling", 1) > 1:
                store.wait(["hangs"])  # a launcher ends all as soon as one has ended
                return
        except RuntimeError:
            store = None  # it is gone, so each tells
        what = f"{hang.what}. So this run ends"
        _write(f"{Problem(what)}\n")
        _write(f"    {self.goes_on()} Where nothing hangs and all is slow, a longer engine.patience (minutes) helps.\n")
        if store is not None:
            with contextlib.suppress(RuntimeError):
                store.set("hangs", json.dumps(hang.ranks))

    def _hung(self, ranks: Any) -> list[Beat]:
        return [beat for rank in ranks if rank in self._seen and (beat := self._seen[rank][1]) is not None]

    def _leave(self, hung: list[Beat]) -> None:
        """End this process at once, without what its main thread would do. A stopped one on this machine is woken, so that it can end too."""
        for beat in hung:
            if beat.host == os.uname().nodename and beat.pid not in (0, os.getpid()):
                try:
                    os.kill(beat.pid, signal.SIGCONT)
                except OSError:
                    continue
        os._exit(TOLD)


def own_connection(store: Store) -> Store:
    """Another connection to the same store: one that waits for an answer keeps all others of its process waiting."""
    cloned: Store = store.clone()  # type: ignore[attr-defined]
    return cloned


def _beat_of(text: str) -> Beat:
    found = json.loads(text)
    found.pop("number")
    return Beat(**found)


def _write(text: str) -> None:
    """On stderr, past its buffer, whose lock a thread that hangs may hold."""
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        return


RUNNERS = frozenset({"deepspeed", "deepspeed.pt", "ds", "deepspeed.launcher.runner"})
"""What is called to start processes with DeepSpeed. It starts a launcher on each machine, which starts them, and goes on when this one is gone."""


def launchers() -> dict[int, str]:
    """The processes above this one that are launchers, which outlive what they start, by number; and when each started."""
    if not SHARED & os.environ.keys():
        return {}
    above = psutil.Process().parents()[:2]
    found = [process for number, process in enumerate(above) if number == 0 or _is_runner(process)]
    return {process.pid: started(process.pid) or "" for process in found}


def _is_runner(process: psutil.Process) -> bool:
    try:
        return not RUNNERS.isdisjoint(Path(word).name for word in process.cmdline()[:3])
    except psutil.Error:
        return False


WAITING = (f"torch{os.sep}distributed{os.sep}", f"deepspeed{os.sep}comm{os.sep}")
"""Where a frame lies that waits for other processes."""


def is_waiting(frame: FrameType) -> bool:
    """Whether a thread waits for other processes: in a collective, or where they meet."""
    code = frame.f_code
    return any(part in code.co_filename for part in WAITING) or code.co_name == "wait_at_store"


def place_of(frame: FrameType | None) -> str:
    """The innermost place of a thread outside of the standard library, as FUNCTION (FILE:LINE)."""
    standard = (sysconfig.get_path("stdlib"), "<")
    inner = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(standard) or "site-packages" in name:
            inner = frame
            break
        frame = frame.f_back
    return f"{inner.f_code.co_name} ({inner.f_code.co_filename}:{inner.f_lineno})" if inner is not None else ""
