"""The processes of a run, which find their place, wait for one another and end together without a process group.

A launcher (torchrun, `deepspeed`, `ltx launch`) sets each process's number in its environment. Until the process group exists, processes
meet at the launcher's key-value store. Waiting at the store has no time limit, since encoding a dataset may take hours, while collectives
give up after minutes.
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
"""The seconds between checks of the store; signals are noticed at the same intervals."""

GRACE = 2.0
"""The seconds that a process, after it has lost another one, waits for the reason why that process ended and for signs of life from the
others.
"""

PATIENCE = 600.0
"""The patience, in seconds, at times when that of the run file does not apply: before it is read, and after the run."""

LOG_OF_TORCH = "TORCH_CPP_LOG_LEVEL"
"""The environment variable for the lowest level of log lines that torch's C++ code writes (`[E1129 ... ProcessGroupGloo.cpp:67]`)."""

OURS = "LTX_LAUNCH"
"""The environment variable by which `ltx launch` tells the processes that it started them, and that it reports killed processes itself."""


@attrs.frozen
class Place:
    """The number of this process: `rank` of `world_size`, and `local_rank` on its machine, both counted from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def is_told_of(self, rank: int) -> bool:
        """Return whether `ltx launch` reports the end of a process, as it does for the processes that it started on this machine."""
        first = self.rank - self.local_rank
        return OURS in os.environ and first <= rank < first + int(os.environ.get("LOCAL_WORLD_SIZE", "0"))

    @classmethod
    def of_environment(cls) -> Place:
        """Read the place from RANK, WORLD_SIZE and LOCAL_RANK, which launchers set; without these variables, the process is alone.

        Raises:
            ConfigError: the variables are not numbers, or the rank is not below the world size.
        """
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        local = os.environ.get("LOCAL_RANK", "0")
        if not (rank.isdecimal() and size.isdecimal() and local.isdecimal() and int(rank) < int(size)):
            raise ConfigError(
                f"RANK={rank}, WORLD_SIZE={size} and LOCAL_RANK={local} do not describe a process of a run",
                where="environment",
                remedy="Let a launcher such as torchrun set all three, or unset them.",
            )
        return cls(int(rank), int(size), int(local))


def quiet_torch() -> None:
    """Limit torch's C++ log to fatal errors, unless the user has set the level or asked for the logs of libraries.

    The processes of a run themselves report what ends them. torch reads the level only once, when it is imported.
    """
    if not is_verbose():
        os.environ.setdefault(LOG_OF_TORCH, "FATAL")


@attrs.define(eq=False)
class Processes:
    """This process as a member of the run's processes.

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
        """Connect the processes of this launch; every process must call this.

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
                f"process {place.rank} cannot reach the other {place.world_size - 1} at {at}: {first_line(error)}",
                remedy="Start all of them, with the same MASTER_ADDR and MASTER_PORT, or let `ltx launch` or torchrun do it.",
            ) from error
        # A launch may run several run files one after the other; each gets separate keys.
        number = store.add(f"ltx/runs/{place.rank}", 1)
        return cls(place, PrefixStore(f"ltx/{number}", store))

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world_size(self) -> int:
        return self.place.world_size

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank.

        All processes must call this, and wait for the last one, however long it takes. A value may be anything that JSON can hold.
        """
        if self.store is None:
            return [value]
        self._meetings += 1
        self.store.set(f"{self._meetings}/{self.rank}", json.dumps(value))
        return [json.loads(self._wait(f"{self._meetings}/{rank}", rank)) for rank in range(self.world_size)]

    def leave(self) -> None:
        """Wait for the other processes at the end, since launchers mistake the first process to leave a stopped run for a failure."""
        try:
            self.exchange(None)
        except BaseException as error:
            if not is_loss(error):
                raise

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` on every process. If it fails on any process, it fails on all, and only the first process that failed reports the
        error.

        Raises:
            LtxError: the error that `work` raised, on the first process that failed.
            SystemExit: `work` failed, on all other processes.
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
        """Do `work` on the first process and then on the others, which find on disk what the first one wrote. Failures are handled as in
        `together`.
        """
        if self.rank == 0:
            value = self.together(work)
            return self.together(lambda: value)
        self.together(lambda: None)
        return self.together(work)

    @contextmanager
    def ending(self, goes_on: Callable[[], str] = lambda: "", patience: float = PATIENCE) -> Iterator[None]:
        """Return a context in which an error that ends the run is reported by exactly one process.

        This process reports its error, unless it failed only because it lost contact with another process, which reports the error itself.

        Meanwhile each process watches whether the others make progress, and all end together if one hangs (`engines.watch`).

        Args:
            goes_on: a function that returns what to tell the user to do if a process was lost.
            patience: the seconds without a sign of life or progress after which a process counts as hanging; 0 for no limit.

        Raises:
            ProcessError: another process ended without a report; one of the remaining processes raises this.
            SystemExit: the process that ended has reported the reason, or another remaining process reports it.
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
        """Return the error to raise when a collective has failed or the store has vanished because another process is gone."""
        self._say(f"left/{self.rank}")
        with undisturbed():
            time.sleep(GRACE)
        try:
            if self._is_said("told") or self.store is None or self.store.add("telling", 1) > 1:
                return SystemExit(TOLD)
            lost = [rank for rank in range(self.world_size) if not self._is_said(f"left/{rank}")]
            if lost and all(self.place.is_told_of(rank) for rank in lost):
                return SystemExit(TOLD)
        except RuntimeError:  # the store is gone with the process that held it; with two processes, this is the other one
            lost = [1 - self.rank] if self.world_size == 2 and not is_loss_of_store(error) else []
        who = f"process {', '.join(map(str, lost))}" if lost else "a process"
        return ProcessError(
            f"{who} of {self.world_size} ended without a message (it was killed, or ran out of memory), so this run ends", remedy=goes_on()
        )

    def _wait(self, key: str, rank: int) -> bytes:
        """Return the value of another process, after waiting for it.

        Raises:
            ProcessError: the value does not come in time, and no watch is running.
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
    """Return a value from the store, after waiting for it.

    Args:
        store: the store through which the processes meet.
        key: the key of the value.
        whom: the process that sets the value, in words.
        limit: the seconds to wait; None for no limit.

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
        limit: the seconds to wait, since leaving may never finish if another process is gone.
    """
    from torch import distributed

    if distributed.is_initialized():
        with undisturbed():  # the reason why this process ends is reported only after this
            leaving = threading.Thread(target=distributed.destroy_process_group, daemon=True)
            leaving.start()
            leaving.join(limit)


def is_loss(error: BaseException) -> bool:
    """Return whether an error means that another process in a collective, or the process that holds the store, is gone."""
    from torch.distributed import DistError

    text = str(error)
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text or "Connection" in text))


def is_loss_of_store(error: BaseException) -> bool:
    """Return whether an error means that the store is gone with the process or launcher that held it."""
    from torch.distributed import DistNetworkError, DistStoreError

    return isinstance(error, DistNetworkError | DistStoreError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or else the name of its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
