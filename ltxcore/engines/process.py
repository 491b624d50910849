"""The processes of a run: which one this is, and how they wait for one another and end together without a process
group.

A launcher (torchrun, `deepspeed`, `ltx launch`) says in the environment who each process is. Until the process group exists, they meet at the launcher's
key-value store, where waiting has no time limit: encoding a dataset may take hours, and collectives give up after minutes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ltxcore.engines.alive import TOLD, Progress, spelled
from ltxcore.engines.signals import undisturbed
from ltxcore.engines.watch import Watch
from ltxcore.errors import ConfigError, LtxError, ProcessError
from ltxcore.logs import is_verbose

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

POLL = 0.05
"""The seconds between checks of the store; signals are noticed at the same interval."""

GRACE = 2.0
"""The seconds for which a process that lost another waits to hear why that one ended, and for signs of life from the rest."""

PATIENCE = 600.0
"""The seconds that a process waits for another before the patience of the run file applies, and after the run."""

LOG_OF_TORCH = "TORCH_CPP_LOG_LEVEL"
"""The environment variable for the lowest level at which torch's C++ code writes log lines (`[E1129 ... ProcessGroupGloo.cpp:67]`)."""

OURS = "LTX_LAUNCH"
"""The environment variable by which `ltx launch` tells a process that it started it, and that it reports killed processes itself."""


@attrs.frozen
class Place:
    """The number of this process: `rank` of `world_size`, and `local_rank` on its machine, counted from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def is_told_of(self, rank: int) -> bool:
        """Return whether `ltx launch` reports the end of a process, which it does for those that it started on this machine."""
        first = self.rank - self.local_rank
        return OURS in os.environ and first <= rank < first + int(os.environ.get("LOCAL_WORLD_SIZE", "0"))

    @classmethod
    def of_environment(cls) -> Place:
        """Read the place from RANK, WORLD_SIZE and LOCAL_RANK as launchers set them; without them the process is alone.

        Raises:
            ConfigError: the variables are not numbers, or the rank is not below the world size.
        """
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        local = os.environ.get("LOCAL_RANK", "0")
        if not (rank.isdecimal() and size.isdecimal() and local.isdecimal() and int(rank) < int(size)):
            raise ConfigError(
                f"RANK={rank} and WORLD_SIZE={size} do not describe a process of a run",
                where="environment",
                remedy="Let a launcher set them, such as torchrun, or unset both.",
            )
        return cls(int(rank), int(size), int(local))


def quiet_torch() -> None:
    """Limit torch's C++ log to fatal errors, unless the user has set its level or asked for the logs of libraries.

    The processes of a run report by themselves what ends them. torch reads the level once, when it is imported.
    """
    if not is_verbose():
        os.environ.setdefault(LOG_OF_TORCH, "FATAL")


@attrs.define(eq=False)
class Processes:
    """This process as a member of the processes of a run.

    Attributes:
        place: the number of this process.
        store: the store through which the processes meet; None if this process is alone.
        progress: the current work of this process, for the others to see.
    """

    place: Place = Place()
    store: Store | None = None
    progress: Progress = attrs.field(factory=Progress)
    _watch: Watch | None = attrs.field(default=None, init=False)
    _meetings: int = attrs.field(default=0, init=False)

    @classmethod
    def meet(cls, place: Place | None = None) -> Processes:
        """Connect the processes of this launch, each of which calls this.

        Raises:
            ProcessError: the processes do not find each other.
        """
        place = place or Place.of_environment()
        if place.world_size == 1:
            return cls(place)
        quiet_torch()
        from torch.distributed import DistError
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        try:
            store, _, _ = next(rendezvous("env://"))
        except (DistError, ValueError) as error:
            at = f"{os.environ.get('MASTER_ADDR', 'MASTER_ADDR')}:{os.environ.get('MASTER_PORT', 'MASTER_PORT')}"
            raise ProcessError(
                f"process {place.rank} cannot reach the other {place.world_size - 1} at {at}: {_first_line(error)}",
                remedy="Start all of them, with the same MASTER_ADDR and MASTER_PORT, or let `ltx launch` or torchrun do it.",
            ) from error
        # A launch may run several run files one after the other; each gets its own keys.
        number = store.add(f"ltx/runs/{place.rank}", 1)
        return cls(place, PrefixStore(f"ltx/{number}", store))

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world_size(self) -> int:
        return self.place.world_size

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank; they may be anything that JSON can hold. All processes
        call this, and wait for the last one, however long it takes.
        """
        if self.store is None:
            return [value]
        self._meetings += 1
        self.store.set(f"{self._meetings}/{self.rank}", json.dumps(value))
        return [json.loads(self._wait(f"{self._meetings}/{rank}", rank)) for rank in range(self.world_size)]

    def leave(self) -> None:
        """Wait for the other processes at the end: if a run was stopped, launchers mistake the first process to leave for a failure."""
        try:
            self.exchange(None)
        except BaseException as error:
            if not is_loss(error):
                raise

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` on every process. If it fails on one, it fails on all, and only the first process that failed
        reports the error.

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
        """Do `work` on the first process and then on the others, which find on disk what the first one wrote; it fails
        as `together` does.
        """
        if self.rank == 0:
            value = self.together(work)
            return self.together(lambda: value)
        self.together(lambda: None)
        return self.together(work)

    @contextmanager
    def ending(self, goes_on: Callable[[], str] = lambda: "", patience: float = PATIENCE) -> Iterator[None]:
        """Return a context in which an error that ends the run is reported by exactly one process: by this one, unless
        this one failed only because it lost contact with another, which reports the error itself.

        Meanwhile each process watches whether the others make progress, and ends together with them if one hangs
        (`engines.watch`).

        Args:
            goes_on: returns what to tell the user to do if a process was lost.
            patience: the seconds without a sign of life or progress after which a process counts as hanging; 0 for no limit.

        Raises:
            ProcessError: another process ended without a report; raised on one of those that remain.
            SystemExit: on the others, and if the process that ended has reported why.
        """
        self._watch = Watch(self.rank, self.world_size, self.store, self.progress, patience, goes_on)
        self._watch.start()
        try:
            yield
        except BaseException as error:
            if self.store is None:
                raise
            if not is_loss(error):
                self._say("told")
                raise
            raise self._left_behind(goes_on, error) from error
        finally:
            self._watch.stop()
            self._watch = None

    def _left_behind(self, goes_on: Callable[[], str], error: BaseException) -> BaseException:
        """Return the error to raise after a collective failed or the store vanished because another process is gone."""
        self._say(f"left/{self.rank}")
        with undisturbed():
            time.sleep(GRACE)
        try:
            if self._is_said("told") or self.store is None or self.store.add("telling", 1) > 1:
                return SystemExit(TOLD)
            lost = [rank for rank in range(self.world_size) if not self._is_said(f"left/{rank}")]
            if lost and all(self.place.is_told_of(rank) for rank in lost):
                return SystemExit(TOLD)
        except RuntimeError:  # the store is gone with the process that held it: of two processes, the other one
            lost = [1 - self.rank] if self.world_size == 2 and not is_loss_of_store(error) else []
        who = f"process {', '.join(map(str, lost))}" if lost else "a process"
        return ProcessError(
            f"{who} of {self.world_size} ended without a message (it was killed, or ran out of memory), so this run ends", remedy=goes_on()
        )

    def _wait(self, key: str, rank: int) -> bytes:
        """Wait for the value of another process, and return it.

        Raises:
            ProcessError: the value does not come in time, and nothing watches over this run.
        """
        assert self.store is not None
        return wait_at_store(self.store, key, f"process {rank} of {self.world_size}", None if self._watch is not None else PATIENCE)

    def _say(self, key: str) -> None:
        if self.store is not None:
            with suppress(RuntimeError):  # the store is gone with the process that held it
                self.store.set(key, "1")

    def _is_said(self, key: str) -> bool:
        return self.store is not None and self.store.check([key])


def wait_at_store(store: Store, key: str, whom: str, limit: float | None = None) -> bytes:
    """Wait for a value in the store, and return it.

    Args:
        store: the store through which the processes meet.
        key: the key of the value.
        whom: the process that sets the value, in words.
        limit: the seconds to wait; None for as long as it takes.

    Raises:
        ProcessError: the value did not come within the limit.
    """
    began = time.monotonic()
    while not store.check([key]):
        if limit is not None and time.monotonic() - began > limit:
            raise ProcessError(f"{whom} did not respond within {spelled(limit)}", remedy="Check what it is doing.")
        time.sleep(POLL)
    return store.get(key)


def disconnect(limit: float = 10.0) -> None:
    """Leave the process group, if there is one; NCCL requires every process to do so before it ends.

    Args:
        limit: the seconds to wait: if another process is gone, leaving may never finish.
    """
    from torch import distributed

    if distributed.is_initialized():
        with undisturbed():  # the reason why this process ends is reported only after this
            leaving = threading.Thread(target=distributed.destroy_process_group, daemon=True)
            leaving.start()
            leaving.join(limit)


def is_loss(error: BaseException) -> bool:
    """Return whether an error means that a process at the other end of a collective or of the store is gone."""
    from torch.distributed import DistError

    text = str(error)
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text or "Connection" in text))


def is_loss_of_store(error: BaseException) -> bool:
    """Return whether an error means that the store is gone, along with the process or launcher that held it."""
    from torch.distributed import DistNetworkError, DistStoreError

    return isinstance(error, DistNetworkError | DistStoreError)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
