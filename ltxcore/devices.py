"""Whether a device is a GPU, and what only a GPU has: all of the core asks here, so that what a GPU does differently can be found, and tried, in one place.

torch is imported when something is asked, so that programs which name a device start without it.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GPU = "cuda"
"""The type of a GPU's device in torch, NVIDIA's and AMD's alike."""


def is_gpu(device: torch.device | str) -> bool:
    """Whether a device is a GPU, with memory and a queue of work of its own.

    Raises:
        RuntimeError: torch does not know such a device.
    """
    import torch

    return torch.device(device).type == GPU


def gpus() -> int:
    """How many GPUs this process sees; 0: none, or torch was built without them."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def own_device(local_rank: int | None = None) -> str:
    """The GPU of this process, the one that a launcher numbers LOCAL_RANK; the processor where there is none.

    Args:
        local_rank: this process's number on its machine; none: as the environment says.
    """
    number = os.environ.get("LOCAL_RANK", "0") if local_rank is None else str(local_rank)
    return f"{GPU}:{number}" if gpus() else "cpu"


def gpu_memory(device: torch.device | str | int) -> int:
    """Bytes of memory that a GPU has."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


def peak_gpu_memory(device: torch.device | str) -> int:
    """The most bytes that tensors of this process have taken on a GPU at once."""
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def give_back_gpu_memory() -> None:
    """Give memory that torch keeps for later back to the GPU, for others to use; without a GPU nothing is done."""
    import torch

    if gpus():
        torch.cuda.empty_cache()


def with_random_state(device: torch.device) -> list[torch.device]:
    """The devices beside the processor whose global random generator an operation on `device` draws from."""
    return [device] if is_gpu(device) else []


def copying_stream(device: torch.device) -> Any:
    """A queue on which a GPU copies while it computes on another; none elsewhere, where a copy is made when it is asked for."""
    import torch

    return torch.cuda.Stream(device) if is_gpu(device) else None


def on_stream(stream: Any) -> AbstractContextManager[Any]:
    """What is asked of the GPU meanwhile goes to `stream`; none: nothing changes."""
    import torch

    return nullcontext() if stream is None else torch.cuda.stream(stream)


def current_stream(device: torch.device) -> Any:
    """The queue that a GPU computes on now."""
    import torch

    return torch.cuda.current_stream(device)
