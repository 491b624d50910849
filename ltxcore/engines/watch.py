"""The two threads beside the training thread: they write this process's heartbeats, and watch the heartbeats of the other processes by the
rules of `engines.alive`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import attrs

from ltxcore.devices import SHARED
from ltxcore.engines.alive import LONGER, TOLD, Beat, Hang, Progress, spelled, verdict
from ltxcore.errors import Problem
from ltxcore.pids import is_alive, started

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

BEAT = 10.0
"""The usual seconds between heartbeats; there are fewer if the patience is short, and more if there are many processes."""

BUSY = 0.05
"""The processor usage above which a process that loads, encodes or saves counts as making progress, as a share of one processor."""

SEEN_LAST = 10.0
"""The seconds allowed for writing the last message; the process then ends without it, since the terminal may hang too."""


LOST = (RuntimeError, ValueError, MemoryError, TypeError)
"""The errors of a store whose process is gone. A connection that ends in the middle of a call raises torch's DistNetworkError or
DistStoreError, which are RuntimeErrors. Bytes that are not an answer raise a ValueError or MemoryError in torch, where they are taken for
the length of a value, or a ValueError or TypeError here, where they are taken for a heartbeat.
"""


@attrs.define(eq=False)
class Watch:
    """A watch that writes this process's heartbeats, and watches the other processes' heartbeats and the launcher.

    Attributes:
        rank: the rank of this process.
        world_size: the number of processes.
        store: the store through which the processes meet; None if there is only one process.
        progress: the progress of this process.
        patience: the seconds without a sign of life or progress after which a process counts as hanging; 0 for no limit.
        goes_on: a function that returns what to tell the user to do when a process hangs.
        launchers: the start times, by process number, of the parent processes whose end also ends this process; empty if no launcher
            started it.
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
        """The seconds between heartbeats."""
        return max(min(BEAT, self.patience / 5 if self.patience else BEAT), self.world_size / 8 if self.world_size > 64 else 0)

    def start(self) -> None:
        """Start the threads; the main thread calls this."""
        main = threading.get_ident()
        now = time.monotonic()
        self._seen = dict.fromkeys(range(self.world_size), ("", None, now))
        works: list[Callable[[], None]] = []
        if self.launchers or self.store is not None:
            works.append(self._look)
        if self.store is not None and self.patience:
            works.append(partial(self._beat, own_connection(self.store), main))
        self._threads = [threading.Thread(target=work, daemon=True, name="ltx-alive") for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads, because this process has finished its part."""
        self._over.set()
        self.progress.news.set()
        for thread in self._threads:
            thread.join(timeout=2)

    # ---- heartbeats

    def _beat(self, store: Store, main: int) -> None:
        while not self._over.is_set():
            self.progress.news.clear()
            beat = self.now(main)
            try:
                self._say(store, beat)
                self._hear(store)
            except LOST:  # the connection is gone, or the store's process is gone, which other code notices
                with suppress(*LOST):
                    store = own_connection(store)
            self.progress.news.wait(self.period)
        with suppress(*LOST):
            self._say(store, Beat(what=self.progress.what, is_over=True))

    def _say(self, store: Store, beat: Beat) -> None:
        """Write a heartbeat. Heartbeats always differ from each other, at least in the time that this process has been idle."""
        store.set(f"beat/{self.rank}", json.dumps(attrs.asdict(beat)))

    def now(self, main: int) -> Beat:
        """Describe what this process is doing. `main` is the number of its main thread."""
        now, used = time.monotonic(), time.process_time()
        if self.progress.is_long and used - self._busy[1] > BUSY * (now - self._busy[0]):
            self.progress.at = now
        self._busy = now, used
        frames = sys._current_frames()
        return Beat(
            what=self.progress.what,
            is_long=self.progress.is_long,
            moves=self.progress.moves,
            idle=time.monotonic() - self.progress.at,
            waits=any(is_waiting(frame) for frame in frames.values()),
            where=place_of(frames.get(main)),
            pid=os.getpid(),
            host=socket.gethostname(),
        )

    # ---- watching

    def _hear(self, store: Store) -> None:
        for rank in range(self.world_size):
            if store.check([f"beat/{rank}"]):
                text = store.get(f"beat/{rank}").decode()
                if text != self._seen[rank][0]:
                    self._seen[rank] = text, Beat(**json.loads(text)), time.monotonic()
        if store.check(["hangs"]):
            self._leave(json.loads(store.get("hangs")))
        self._reached = time.monotonic()

    def _look(self) -> None:
        """Until the run is over, check that the launcher is alive and that no process hangs."""
        pause = min(1.0, self.period)
        looked = time.monotonic()
        while not self._over.wait(pause):
            now = time.monotonic()
            if not all(is_alive(*each) for each in self.launchers.items()):
                self._orphaned()
                return  # in most cases the store is gone with it
            if now - looked > 5 * pause + self.period:
                # This process was stopped or starved and could not hear the others, so their time counts from now.
                self._seen = {rank: (text, beat, now) for rank, (text, beat, _) in self._seen.items()}
                self._reached = now
            looked = now
            if self.store is not None and self.patience and not self._over.is_set():
                found = self._judged(now)
                if found is not None:
                    self._end(found)

    def _judged(self, now: float) -> Hang | None:
        if now - self._reached <= self.patience:
            # The store's last answer is the time to judge by: while the store does not answer, every process seems silent.
            return verdict({rank: (beat, self._reached - at) for rank, (_, beat, at) in self._seen.items()}, self.patience)
        if now - self.progress.at <= self.patience * (LONGER if self.progress.is_long else 1):
            return None  # the store does not answer, but since this process makes progress, the others do too
        holder = "the launcher" if "TORCHELASTIC_RUN_ID" in os.environ else "process 0"
        return Hang(
            () if holder == "the launcher" or self.rank == 0 else (0,),
            f"{holder}, which connects the processes of this run, has given no sign of life for {spelled(now - self._reached)}",
        )

    def _orphaned(self) -> None:
        if self.rank == 0:
            _write("the launcher of this run is gone, so the run ends too; what it has trained is saved first\n")
        os.kill(os.getpid(), signal.SIGTERM)

    # ---- ending

    def _end(self, hang: Hang) -> None:
        """Report the hang, unless another process does, and end this process."""
        teller = threading.Thread(target=self._tell, args=(hang,), daemon=True)
        teller.start()
        teller.join(SEEN_LAST)
        self._leave(hang.ranks)

    def _tell(self, hang: Hang) -> None:
        assert self.store is not None
        store: Store | None = None
        try:
            store = own_connection(self.store)
            store.set("told", "1")
            if store.add("telling", 1) > 1:
                store.wait(["hangs"])  # a launcher ends all processes as soon as one has ended
                return
        except LOST:
            store = None  # the store is gone, so each process reports the hang
        what = f"{hang.what}. So this run ends"
        _write(f"{Problem(what)}\n")
        _write(f"    {self.goes_on()} If nothing hangs but everything is slow, set a longer engine.patience (minutes).\n")
        if store is not None:
            with suppress(*LOST):
                store.set("hangs", json.dumps(hang.ranks))

    def _leave(self, hung: Iterable[int]) -> None:
        """End this process at once, without any cleanup by its main thread. Hanging processes on this machine are continued, so that
        stopped processes can end too.
        """
        for beat in (self._seen[rank][1] for rank in hung):
            if beat is not None and beat.host == socket.gethostname() and beat.pid not in (0, os.getpid()):
                with suppress(OSError):
                    os.kill(beat.pid, signal.SIGCONT)
        os._exit(TOLD)


def own_connection(store: Store) -> Store:
    """Open another connection to the same store. On a shared connection, a call that waits for its answer would block all other calls."""
    cloned: Store = store.clone()  # type: ignore[attr-defined]
    return cloned


def _write(text: str) -> None:
    """Write to stderr directly, not through its buffer, since a hanging thread may hold the buffer's lock."""
    with suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace"))


RUNNERS = frozenset({"deepspeed", "deepspeed.pt", "ds", "deepspeed.launcher.runner"})
"""The programs that start DeepSpeed on all machines. The launcher that they start on each machine keeps running when they are gone."""


def launchers() -> dict[int, str]:
    """Return the start times, by process number, of the launchers among the parent processes, which normally outlive what they start."""
    if not SHARED & os.environ.keys():
        return {}
    import psutil  # type: ignore[import-untyped, unused-ignore]

    above = [os.getppid()]
    with suppress(psutil.Error):
        runner = psutil.Process(above[0]).parent()
        if runner is not None and not RUNNERS.isdisjoint(Path(word).name for word in runner.cmdline()[:3]):
            above.append(runner.pid)
    return {pid: started(pid) or "" for pid in above if pid}  # 0 is a parent in another container


WAITING = (f"torch{os.sep}distributed{os.sep}", f"deepspeed{os.sep}comm{os.sep}")
"""The parts of source paths that identify the frames which wait for other processes."""


def is_waiting(frame: FrameType) -> bool:
    """Return whether a thread is waiting for other processes, in a collective or at the store."""
    code = frame.f_code
    return any(part in code.co_filename for part in WAITING) or code.co_name == "wait_at_store"


def place_of(frame: FrameType | None) -> str:
    """Return a thread's innermost place outside the standard library, as FUNCTION (FILE:LINE)."""
    if frame is None:
        return ""
    standard = (sysconfig.get_path("stdlib"), "<")
    there = [each for each, _ in traceback.walk_stack(frame)]
    outside = (each for each in there if "site-packages" in (path := each.f_code.co_filename) or not path.startswith(standard))
    inner = next(outside, frame)
    return f"{inner.f_code.co_name} ({inner.f_code.co_filename}:{inner.f_lineno})"
