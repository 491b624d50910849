"""The processes of a run: which one this is, and how they wait for each other and end together without a process group.

A launcher (torchrun, `deepspeed`, `ltx launch`) says in the environment who each process is. Until the process group exists, they meet at the launcher's
key-value store, where waiting has no time limit: encoding a dataset may take hours, and collectives give up after minutes.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ltxcore.errors import ConfigError, LtxError, ProcessError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

POLL = 0.05
"""Seconds between looks at the store; a signal is noticed as soon."""

GRACE = 2.0
"""Seconds that a process which lost another waits for that one to say why, and for the rest to say that they are there."""

TOLD = 2
"""Exit status of a process whose error another one tells: that of any mistake of the user's."""


@attrs.frozen
class Place:
    """This process is number `rank` of `world_size`, and number `local_rank` on its machine; counted from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def of_environment(cls) -> Place:
        """As a launcher says in RANK, WORLD_SIZE and LOCAL_RANK; alone where it says nothing.

        Raises:
            ConfigError: they are no numbers, or the rank is not below the size.
        """
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        local = os.environ.get("LOCAL_RANK", "0")
        if not (rank.isdecimal() and size.isdecimal() and local.isdecimal() and int(rank) < int(size)):
            raise ConfigError(
                f"RANK={rank} and WORLD_SIZE={size} name no share of the work",
                where="environment",
                remedy="Let a launcher set them, such as torchrun, or unset both.",
            )
        return cls(int(rank), int(size), int(local))


@attrs.define(eq=False)
class Processes:
    """This process among those of a run.

    Attributes:
        place: which one it is.
        store: where they meet; None where it is alone.
    """

    place: Place = Place()
    store: Store | None = None
    _meetings: int = attrs.field(default=0, init=False)

    @classmethod
    def meet(cls, place: Place | None = None) -> Processes:
        """The processes of this launch, which all call this."""
        place = place or Place.of_environment()
        if place.world_size == 1:
            return cls(place)
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(rendezvous("env://"))
        # A launch may run several run files one after the other; each has keys of its own.
        number = store.add(f"ltx/runs/{place.rank}", 1)
        return cls(place, PrefixStore(f"ltx/{number}", store))

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world_size(self) -> int:
        return self.place.world_size

    def exchange(self, value: Any) -> list[Any]:
        """What each process has, in order of rank: anything that JSON holds. All call it, however long the last one takes to come."""
        if self.store is None:
            return [value]
        self._meetings += 1
        self.store.set(f"{self._meetings}/{self.rank}", json.dumps(value))
        return [json.loads(self._wait(f"{self._meetings}/{rank}")) for rank in range(self.world_size)]

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` on every process; where it fails on one, it fails on all, and only the first of those that failed tells.

        Raises:
            LtxError: what `work` raised, on the first process where it did.
            SystemExit: on the others.
        """
        error: LtxError | None = None
        try:
            value = work()
        except LtxError as raised:
            error = raised
        failed = [rank for rank, wrong in enumerate(self.exchange(error is not None)) if wrong]
        if not failed:
            return value
        if error is not None and failed[0] == self.rank:
            raise error
        raise SystemExit(TOLD)

    def first_then_others(self, work: Callable[[], T]) -> T:
        """Do `work` on the first process, then on the others: what it leaves on the disk is made once, and then found. Fails as `together` does."""
        if self.rank == 0:
            value = self.together(work)
            return self.together(lambda: value)
        self.together(lambda: None)
        return self.together(work)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """What ends this process is told once among all of them: by this one, unless it only lost one that told itself.

        Raises:
            ProcessError: another process ended without a word; raised on one of those that are left.
            SystemExit: on the rest, and where the other one told.
        """
        try:
            yield
        except BaseException as error:
            if self.store is None:
                raise
            if not is_loss(error):
                self._say("told")
                raise
            raise self._left_behind(error) from None

    def _left_behind(self, error: BaseException) -> BaseException:
        """What to raise where a collective failed since another process is gone."""
        self._say(f"left/{self.rank}")
        with _undisturbed():
            time.sleep(GRACE)
        try:
            if self._is_said("told") or self.store is None or self.store.add("telling", 1) > 1:
                return SystemExit(TOLD)
            lost = [str(rank) for rank in range(self.world_size) if not self._is_said(f"left/{rank}")]
        except RuntimeError:  # the store is gone with the process that held it
            lost = []
        who = f"process {', '.join(lost)}" if lost else "a process"
        return ProcessError(
            f"{who} of {self.world_size} ended without a word (killed, or out of memory), so this run ends: {_first_line(error)}",
            remedy="What was saved is whole: the same command goes on from there.",
        )

    def _wait(self, key: str) -> bytes:
        assert self.store is not None
        while not self.store.check([key]):
            time.sleep(POLL)
        return self.store.get(key)

    def _say(self, key: str) -> None:
        if self.store is not None:
            try:
                self.store.set(key, "1")
            except RuntimeError:  # the store is gone with the process that held it
                return

    def _is_said(self, key: str) -> bool:
        return self.store is not None and self.store.check([key])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without SIGTERM, which a launcher sends as soon as one process is gone: the others still have to say why they end, and then do."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_loss(error: BaseException) -> bool:
    """Whether an error says that a process on the other side of a collective, or of the store, is gone."""
    from torch.distributed import DistError

    text = str(error)
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text or "Connection" in text))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
