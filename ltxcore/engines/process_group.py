"""The process group for messages between processes. It is started once, quietly and without compiling anything."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import attrs
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore

from ltxcore.devices import gpus, is_gpu, take_gpu
from ltxcore.engines.alive import TOLD, Progress
from ltxcore.engines.process import Processes
from ltxcore.errors import LtxError
from ltxcore.logs import adopt, unwarned
from ltxcore.models.sequence_parallel import SequenceGroup

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""The time that a process waits in a collective of a step. `engines.alive` notices a hang earlier; this limit is for the case in which not
even a thread can watch.
"""

WRITING = timedelta(days=7)
"""The time that processes wait for the first one, which may be writing a large checkpoint or generating clips."""

NCCL = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "3"}
"""The default settings for NCCL, which the environment can override. A process that NCCL finds abandoned ends without cleaning up, since
cleaning up could wait for the lost process.
"""


def deepspeed() -> Any:
    """Import DeepSpeed without its remarks, and keep it from compiling anything for a CPU."""
    if not gpus():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Every collective calls torch under names that torch has changed since.
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    with unwarned():
        import deepspeed
        from deepspeed.accelerator import get_accelerator
    adopt("DeepSpeed")
    if get_accelerator().device_name() == "cpu":
        # Only inference uses this, yet it would be compiled as soon as the processes are connected.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


@attrs.frozen(eq=False)
class Group:
    """The connected processes of a run.

    Attributes:
        rank: the rank of this process.
        world_size: the number of processes.
        talk: the group for messages other than gradients and weights; it is on the CPU, so that messages do not wait for a GPU.
        progress: the current work of this process, for the others to see.
    """

    rank: int
    world_size: int
    talk: Any
    progress: Progress = attrs.field(factory=Progress)

    @classmethod
    def start(cls, processes: Processes, device: torch.device) -> Group:
        """Connect the processes, or reuse the existing connection, as in a launch of several runs."""
        place = processes.place
        # DeepSpeed takes the GPU of this number, which is not the local rank where a process sees only its own GPU.
        os.environ["LOCAL_RANK"] = str(place.local_rank if device.index is None else device.index)
        if not dist.is_initialized():
            store = processes.store or HashStore()
            backend = "nccl" if is_gpu(device) else "gloo"
            for name, value in NCCL.items():
                os.environ.setdefault(name, value)
            take_gpu(device)  # this comes before NCCL starts, which would otherwise guess the GPU
            dist.init_process_group(
                backend,
                store=PrefixStore("group", store),
                rank=place.rank,
                world_size=place.world_size,
                timeout=PATIENCE,
                device_id=device if is_gpu(device) else None,
            )
            deepspeed().init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
        return cls(place.rank, place.world_size, dist.new_group(backend="gloo", timeout=WRITING), processes.progress)

    def divided(self, size: int) -> SequenceGroup:
        """Divide the processes into groups of `size` with neighboring ranks, and return the group of this process."""
        mine, _ = dist.new_subgroups(group_size=size, timeout=PATIENCE)
        return SequenceGroup(self.rank % size, size, mine)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value, group=self.talk)
        return found

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all processes, in float64, using a single message. Every process passes equally many."""
        sums = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
        dist.all_reduce(sums, group=self.talk)
        found: list[float] = sums.tolist()
        return found

    def same(self, code: int) -> bool:
        """Return whether all processes have the same number, using a single small message."""
        extremes = torch.tensor([code, -code], dtype=torch.int64)
        dist.all_reduce(extremes, op=dist.ReduceOp.MAX, group=self.talk)
        return bool(extremes[0] == -extremes[1])

    def first(self, work: Callable[[], T], help_with: Callable[[str], object]) -> T:
        """Do `work` on the first process, and return its result on every process. Meanwhile the others join in whatever `work` requests
        with `ask`.

        Raises:
            LtxError: the error that `work` raised, on the first process, which reports it.
            SystemExit: `work` failed, on all other processes.
        """
        if self.rank == 0:
            return self._lead(work)
        while True:
            kind, value = self._hear()
            if kind == "ask":
                help_with(value)
            elif kind == "done":
                result: T = value
                return result
            else:
                raise SystemExit(TOLD)

    def refuse(self, error: LtxError) -> NoReturn:
        """End the run with an error that all processes have encountered.

        Raises:
            LtxError: `error` is raised on the first process, which reports it.
            SystemExit: this is raised on all other processes.
        """
        if self.rank == 0:
            raise error
        raise SystemExit(TOLD)

    def ask(self, what: str) -> None:
        """Have the other processes join in this work. This must be called only within the `work` of `first`."""
        self._say("ask", what)

    def _lead(self, work: Callable[[], T]) -> T:
        before = self.progress.what, self.progress.is_long
        self.progress.says(f"{before[0]}, at work for the others", is_long=True)
        try:
            value = work()
        except LtxError:
            self._say("failed", None)
            raise
        self.progress.says(before[0], is_long=before[1])
        self._say("done", value)
        return value

    def _say(self, kind: str, value: Any) -> None:
        dist.broadcast_object_list([kind, value], src=0, group=self.talk)

    def _hear(self) -> tuple[str, Any]:
        heard: list[Any] = [None, None]
        dist.broadcast_object_list(heard, src=0, group=self.talk)
        return heard[0], heard[1]
