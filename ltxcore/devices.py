"""Devices, and everything that only a GPU has: the whole core goes through this module, so that what differs on a GPU
can be found and tested in one place.

torch is imported only when a function is called, so that programs which only name a device start without it.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ltxcore.errors import ConfigError
from ltxcore.logs import notice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GPU = "cuda"
"""The type of a GPU device in torch, for NVIDIA's and AMD's GPUs alike."""


def is_gpu(device: torch.device | str) -> bool:
    """Return whether a device is a GPU, with its own memory and work queue.

    Raises:
        RuntimeError: torch does not know such a device.
    """
    import torch

    return torch.device(device).type == GPU


def gpus() -> int:
    """Return how many GPUs this process sees; 0 if there are none, or if torch was built without GPU support."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def own_device(local_rank: int | None = None) -> str:
    """Return the GPU of this process, which a launcher numbers LOCAL_RANK; the CPU if there is none.

    A scheduler such as SLURM may show each process only its own GPU, whatever its number; then that GPU is returned.

    Args:
        local_rank: this process's number on its machine; None to take it from the environment.

    Raises:
        ConfigError: a launcher started more processes than there are GPUs.
    """
    there = gpus()
    if not there:
        if has_mps():
            notice(f"The GPU of this Mac is not used; everything is computed on its CPU: {NO_MPS}.")
        return "cpu"
    number = int(os.environ.get("LOCAL_RANK", "0")) if local_rank is None else local_rank
    if number < there:
        return f"{GPU}:{number}"
    if there == 1 and not SHARED & os.environ.keys():
        return f"{GPU}:0"
    raise ConfigError(
        f"process {number} has no GPU {GPU}:{number}; {_visible(there)}",
        where="environment",
        remedy="Start one process for each GPU, or make more of them visible (CUDA_VISIBLE_DEVICES).",
    )


def device_named(text: str | None, where: str = "--device") -> str:
    """Return the device that a user names; for None, this process's own.

    Args:
        text: "cpu", "cuda", or "cuda:1" for the second GPU.
        where: the place where the user names it.

    Raises:
        ConfigError: there is no such device, or a model cannot be run on it.
    """
    if text is None:
        return own_device()
    kind, _, number = text.partition(":")
    if text == "mps" or kind == "mps":
        raise ConfigError(f'"{text}", the GPU of a Mac, cannot run the model: {NO_MPS}', where=where, remedy="Leave it out, or name cpu.")
    if kind not in ("cpu", GPU) or text.endswith(":") or not (number or "0").isdecimal() or (kind == "cpu" and number not in ("", "0")):
        known = ["cpu", *([GPU, *(f"{GPU}:{each}" for each in range(gpus()))] if gpus() else [])]
        meant = f"Did you mean {GPU}? " if kind.lower() in ("gpu", "nvidia", "rocm", "hip") and gpus() else ""
        raise ConfigError(f'"{text}" is not a device', where=where, remedy=f"{meant}Available: {', '.join(known)}.")
    if kind == "cpu":
        return "cpu"
    there = gpus()
    if not there:
        raise ConfigError(f'"{text}" is not available: {_why_no_gpu()}', where=where, remedy="Leave it out, or name cpu.")
    if int(number or "0") >= there:
        raise ConfigError(f'"{text}" is not available; {_visible(there)}', where=where, remedy="Name one of them; they are counted from 0.")
    return text


SHARED = frozenset({"TORCHELASTIC_RUN_ID", "CROSS_RANK"})
"""The environment variables that mark a process of torchrun or of DeepSpeed's launcher; these processes all see the
same GPUs and take one each.
"""

NO_MPS = "it has no 64-bit floating-point numbers, in which the model computes positions"


def has_mps() -> bool:
    """Return whether this is a Mac with a GPU that torch could use."""
    import torch

    return bool(torch.backends.mps.is_available())


def take_gpu(device: torch.device) -> None:
    """Make this GPU the default on which libraries compute; for another device, do nothing."""
    import torch

    if is_gpu(device):
        torch.cuda.set_device(device)


def _visible(there: int) -> str:
    names = f"{GPU}:0" if there == 1 else f"{GPU}:0 to {GPU}:{there - 1}"
    return f"{there} {'is' if there == 1 else 'are'} visible, {names}"


def _why_no_gpu() -> str:
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "the installed torch was built for the CPU only"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    return "torch finds no GPU here (see what `nvidia-smi` says)"


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor to another device.

    A copy to a GPU goes through pinned memory: from other memory it would wait until the GPU has finished all its work.
    """
    if is_gpu(device) and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def gpu_memory(device: torch.device | str | int) -> int:
    """Return how many bytes of memory a GPU has."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


def peak_gpu_memory(device: torch.device | str) -> int:
    """Return the most bytes that this process's tensors have occupied on a GPU at once."""
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def gpu_memory_of_others(device: torch.device | str) -> int:
    """Return the bytes of a GPU that are neither free nor reserved by this process's torch: those of other programs,
    and of all contexts.
    """
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    return max(0, int(total - free - torch.cuda.memory_reserved(device)))


def memory_is_bounded(device: torch.device | str) -> bool:
    """Return whether everything computed on a device must fit into its memory: a GPU's memory is a hard limit, while
    the host's is paged.
    """
    return is_gpu(device)


def give_back_gpu_memory() -> None:
    """Return memory that torch caches to the GPU, for other programs to use; without a GPU, do nothing."""
    import torch

    if gpus():
        torch.cuda.empty_cache()


def with_random_state(device: torch.device) -> list[torch.device]:
    """Return the devices besides the CPU whose global random generator an operation on `device` uses."""
    return [device] if is_gpu(device) else []


def copying_stream(device: torch.device) -> Any:
    """Create a stream on which a GPU copies while it computes on another; None for other devices, which copy only when asked."""
    import torch

    return torch.cuda.Stream(device) if is_gpu(device) else None


def on_stream(stream: Any) -> AbstractContextManager[Any]:
    """Queue the work of the block on `stream`; with None, nothing changes."""
    import torch

    return nullcontext() if stream is None else torch.cuda.stream(stream)


def current_stream(device: torch.device) -> Any:
    """Return the stream that a GPU computes on now."""
    import torch

    return torch.cuda.current_stream(device)
