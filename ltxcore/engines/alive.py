"""The detection of processes that hang. Every process writes heartbeats to a shared store, and watches the heartbeats of the others.

A process that is stopped, or that loses its machine, sends no more heartbeats. If a main thread hangs, on a lock or on a file that a
network disk does not deliver, another thread of the process still reports this. The cause is reported once, and then every process exits
immediately. No exception could end it, since its main thread may be inside a collective, waiting for the process that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import attrs

LONGER = 6
"""The factor by which the patience is extended for a process that loads, encodes or saves without using its processor, since a network disk
may be slow.
"""

TOLD = 2
"""The exit status of a process when another process reports the error; it is the same as for any user error."""


@attrs.define
class Progress:
    """The work that this process's main thread is doing.

    Attributes:
        what: the work in words, such as "step 12".
        is_long: whether the work may take long without a sign of progress.
        moves: the number of finished parts of steps. All processes do the same parts, so a process that is behind holds up the others.
        at: the time of the last progress, in seconds of the monotonic clock.
        news: an event that is set when the others should be told at once.
    """

    what: str = "starting"
    is_long: bool = True
    moves: int = 0
    at: float = attrs.field(factory=time.monotonic)
    news: threading.Event = attrs.field(factory=threading.Event)

    def says(self, what: str, *, is_long: bool = False) -> None:
        """Note that new work begins, or the next part of the same work."""
        self.what, self.is_long = what, is_long
        self.at = time.monotonic()
        if is_long:  # steps may be too quick to report each of them
            self.news.set()

    def moved(self) -> None:
        """Count one more finished part of a step, as every process does."""
        self.moves += 1
        self.at = time.monotonic()


@attrs.frozen(kw_only=True)
class Beat:
    """A heartbeat: the report of a process about itself.

    Attributes:
        what: the present activity of the process.
        is_long: whether this may take long without a sign of progress.
        moves: the number of finished parts of steps.
        idle: the seconds since the last progress.
        waits: whether the process is waiting for other processes.
        where: the process's current place in the program.
        pid: the process number on `host`.
        host: the name of the process's machine.
        is_over: whether the process has finished its part of the run.
    """

    what: str
    is_long: bool = False
    moves: int = 0
    idle: float = 0.0
    waits: bool = False
    where: str = ""
    pid: int = 0
    host: str = ""
    is_over: bool = False


@attrs.frozen
class Hang:
    """The processes that hold up the run, and a sentence that reports them."""

    ranks: tuple[int, ...]
    what: str


def verdict(beats: Mapping[int, tuple[Beat | None, float]], patience: float) -> Hang | None:
    """Find the processes that hold up the run; None if there are none.

    Args:
        beats: the last heartbeat of each process, None before the first, and how many seconds ago it came.
        patience: the seconds after which a process counts as hanging.
    """
    there = {rank: (beat, age) for rank, (beat, age) in beats.items() if beat is None or not beat.is_over}
    silent = [rank for rank, (_, age) in there.items() if age > patience]
    if silent:
        said = [f"process {rank} of {len(beats)}, {_last_word(*there[rank])}" for rank in silent]
        return Hang(tuple(silent), f"{'; '.join(said)}, shows no sign of life")
    known = {rank: beat for rank, (beat, _) in there.items() if beat is not None}
    stuck = {rank: beat for rank, beat in known.items() if beat.idle > patience * (LONGER if beat.is_long and not beat.waits else 1)}
    hung = {rank: beat for rank, beat in stuck.items() if not beat.waits}
    if hung:
        behind = min(beat.moves for beat in hung.values())
        first = {rank: beat for rank, beat in hung.items() if beat.moves == behind}
        said = [f"process {rank} of {len(beats)} has not moved for {spelled(beat.idle)}: {_doing(beat)}" for rank, beat in first.items()]
        return Hang(tuple(first), "; ".join(said))
    if known and len(stuck) == len(beats):
        said = [f"process {rank} at {_doing(beat)}" for rank, beat in stuck.items()]
        return Hang(
            tuple(stuck),
            f"all {len(beats)} processes have waited for one another for {spelled(min(b.idle for b in stuck.values()))}: {', '.join(said)}",
        )
    return None


def spelled(seconds: float) -> str:
    """Return a duration in words: in seconds if it is below two minutes, otherwise in minutes."""
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _last_word(beat: Beat | None, age: float) -> str:
    if beat is None:
        return f"for which the others waited {spelled(age)}"
    return f'which said "{_doing(beat)}" {spelled(age)} ago'


def _doing(beat: Beat) -> str:
    return f"{beat.what}, in {beat.where}" if beat.where else beat.what
