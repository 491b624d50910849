"""Detection of processes that hang: every process writes a beat to the store where they meet, and all of them look at
the beats.

A process that is stopped, or whose machine is gone, says nothing any more. One whose main thread hangs (in a file that a network disk does not give, in a lock)
still has a thread that says so. What ends the run is said once, and then every process ends at once: their main threads may wait for the one that hangs
inside of a collective, where no exception reaches them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import attrs

LONGER = 6
"""The multiple of the patience that a process has to load, encode or save without using its processor: a network disk may be slow."""

TOLD = 2
"""The exit status of a process whose error another one reports: the status of any mistake of the user's."""


@attrs.define
class Progress:
    """The current work of this process's main thread.

    Attributes:
        what: in words, such as "step 12".
        is_long: whether it may take long without a sign of progress.
        moves: how often it did a part of a step, which all processes do alike: one that is behind holds up the rest.
        at: when it moved on last, in seconds of the monotonic clock.
        news: set where the others are told at once.
    """

    what: str = "starting"
    is_long: bool = True
    moves: int = 0
    at: float = attrs.field(factory=time.monotonic)
    news: threading.Event = attrs.field(factory=threading.Event)

    def says(self, what: str, *, is_long: bool = False) -> None:
        """Begin something else, or the next part of the same work."""
        self.what, self.is_long = what, is_long
        self.at = time.monotonic()
        if is_long:  # steps may be too quick to tell of each
            self.news.set()

    def moved(self) -> None:
        """Count a part of a step, as all processes do."""
        self.moves += 1
        self.at = time.monotonic()


@attrs.frozen(kw_only=True)
class Beat:
    """The report of a process about itself.

    Attributes:
        what: it does.
        is_long: whether that may take long without a sign of progress.
        moves: how often it did a part of a step.
        idle: seconds since it last did.
        waits: whether it waits for other processes.
        where: the place in the program.
        pid: of the process, on `host`.
        host: its machine.
        is_over: it has ended its part of the run.
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
    """The processes that hold up the run, and a sentence that says so."""

    ranks: tuple[int, ...]
    what: str


def verdict(beats: Mapping[int, tuple[Beat | None, float]], patience: float) -> Hang | None:
    """Find the processes that hold up the run; return None if it goes on.

    Args:
        beats: by process, the last that it said and how many seconds ago; None: it has said nothing yet.
        patience: seconds.
    """
    there = {rank: (beat, age) for rank, (beat, age) in beats.items() if beat is None or not beat.is_over}
    silent = [rank for rank, (_, age) in there.items() if age > patience]
    if silent:
        said = [f"process {rank} of {len(beats)}, {_last_word(*there[rank])}" for rank in silent]
        return Hang(tuple(silent), f"{'; '.join(said)}, gives no sign of life")
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
            f"all {len(beats)} processes wait for one another for {spelled(min(b.idle for b in stuck.values()))}: {', '.join(said)}",
        )
    return None


def spelled(seconds: float) -> str:
    """Spell a duration: in seconds, or in minutes from two of them on."""
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _last_word(beat: Beat | None, age: float) -> str:
    if beat is None:
        return f"for which the others waited {spelled(age)}"
    return f'which said "{_doing(beat)}" {spelled(age)} ago'


def _doing(beat: Beat) -> str:
    return f"{beat.what}, in {beat.where}" if beat.where else beat.what
