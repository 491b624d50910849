"""Choose devices, and do everything that only a GPU needs. The whole core uses this module, so that all differences on
a GPU can be found and tested in one place.

torch is imported only when a function is called, so that programs that only name a device start without importing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ltxcore.errors import ConfigError
from ltxcore.logs import notice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GPU = "cuda"
"""The device type that torch uses for GPUs of both NVIDIA and AMD."""


def is_gpu(device: torch.device | str) -> bool:
    """Return whether a device is a GPU, with its own memory and work queue.

    Raises:
        RuntimeError: torch does not know such a device.
    """
    import torch

    return torch.device(device).type == GPU


def gpus() -> int:
    """Return the number of GPUs that this process sees; 0 if torch was built without GPU support."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def own_device(local_rank: int | None = None) -> str:
    """Return the GPU of this process, whose number a launcher sets in LOCAL_RANK; the CPU if there is no GPU.

    A scheduler such as SLURM may show each process only its own GPU. That GPU is then returned, whatever the number.

    Args:
        local_rank: the number of this process on its machine; None to read it from the environment.

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
        remedy="Start one process for each GPU, or make more GPUs visible (CUDA_VISIBLE_DEVICES).",
    )


def device_named(text: str | None, where: str = "--device") -> str:
    """Return the device that a user names; for None, this process's own device.

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
        raise ConfigError(
            f'"{text}", the GPU of a Mac, cannot run the model: {NO_MPS}', where=where, remedy="Leave the device out, or use cpu."
        )
    if kind not in ("cpu", GPU) or text.endswith(":") or not (number or "0").isdecimal() or (kind == "cpu" and number not in ("", "0")):
        known = ["cpu", *([GPU, *(f"{GPU}:{each}" for each in range(gpus()))] if gpus() else [])]
        meant = f"Did you mean {GPU}? " if kind.lower() in ("gpu", "nvidia", "rocm", "hip") and gpus() else ""
        raise ConfigError(f'"{text}" is not a device', where=where, remedy=f"{meant}Available: {', '.join(known)}.")
    if kind == "cpu":
        return "cpu"
    there = gpus()
    if not there:
        raise ConfigError(f'"{text}" is not available: {_why_no_gpu()}', where=where, remedy="Leave the device out, or use cpu.")
    if int(number or "0") >= there:
        raise ConfigError(
            f'"{text}" is not available; {_visible(there)}', where=where, remedy="Use one of the available GPUs, counted from 0."
        )
    return text


SHARED = frozenset({"TORCHELASTIC_RUN_ID", "CROSS_RANK"})
"""The environment variables that show that torchrun or DeepSpeed's launcher started this process. The processes of
these launchers all see the same GPUs, and each uses one of them.
"""

NO_MPS = "this GPU has no 64-bit floating-point numbers, which the model needs to compute positions"


def has_mps() -> bool:
    """Return whether this is a Mac with a GPU that torch could use."""
    import torch

    return bool(torch.backends.mps.is_available())


def take_gpu(device: torch.device) -> None:
    """Make a GPU the default on which libraries compute; for any other device, do nothing."""
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

    A copy to a GPU goes through pinned memory. A copy from other memory would wait until the GPU has finished all its
    work.
    """
    if is_gpu(device) and tensor.device.type == "cpu":
        return pinned(tensor, device).to(device, non_blocking=True)
    return tensor.to(device)


def fetching(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to host memory, and return a function that waits for the copy, but not for work that is queued later."""
    if not is_gpu(tensor.device):
        host = tensor.to("cpu")
        return lambda: host
    stream = copying_stream(tensor.device)
    stream.wait_stream(current_stream(tensor.device))
    with on_stream(stream):
        host = tensor.to("cpu", non_blocking=True, copy=True)  # from a GPU, into pinned memory
        arrived = stream.record_event()
    tensor.record_stream(stream)

    def wait() -> Tensor:
        arrived.synchronize()
        return host

    return wait


def read_together(losses: Tensor | None, number: Tensor) -> tuple[list[float], float]:
    """Return the values of losses, `[N]`, and of another number, with a single wait for the device."""
    import torch

    if losses is None:
        return [], float(number)
    *values, found = torch.cat([losses.detach().float(), moved(number.detach().float().reshape(1), losses.device)]).tolist()
    return values, found


def pinned(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor in memory from which it can be copied to a device without waiting for the device. The tensor is copied only if it is
    on the CPU, in ordinary memory, and the device is a GPU.
    """
    if is_gpu(device) and tensor.device.type == "cpu" and not tensor.is_pinned():
        return tensor.pin_memory()
    return tensor


def gpu_memory(device: torch.device | str | int) -> int:
    """Return the size of a GPU's memory in bytes."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


def peak_gpu_memory(device: torch.device | str) -> int:
    """Return the peak memory in bytes of this process's tensors on a GPU."""
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def gpu_memory_of_others(device: torch.device | str) -> int:
    """Return the bytes of a GPU that are neither free nor reserved by torch in this process. They belong to other
    programs and to the contexts of all programs.
    """
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    return max(0, int(total - free - torch.cuda.memory_reserved(device)))


def memory_is_bounded(device: torch.device | str) -> bool:
    """Return whether everything that is computed on a device must fit into its memory. The memory of a GPU is a hard
    limit; host memory is paged.
    """
    return is_gpu(device)


def give_back_gpu_memory() -> None:
    """Free GPU memory that torch caches, so that other programs can use it; without a GPU, do nothing."""
    import torch

    if gpus():
        torch.cuda.empty_cache()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Return a context in which the global random generators that operations on `device` use begin at `seed`. After the context, the
    generators continue as if it had never been entered.

    This is `torch.random.fork_rng` with a seed, without the time that it takes to look for devices of other kinds.
    """
    import torch

    before, on_gpu = torch.get_rng_state(), torch.cuda.get_rng_state(device) if is_gpu(device) else None
    torch.default_generator.manual_seed(seed)
    if on_gpu is not None:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)


def copying_stream(device: torch.device) -> Any:
    """Create a stream on which a GPU copies data while it computes on another stream; None for other devices, which
    cannot copy in the background.
    """
    import torch

    return torch.cuda.Stream(device) if is_gpu(device) else None


def on_stream(stream: Any) -> AbstractContextManager[Any]:
    """Return a context that queues its work on `stream`; with None, the context has no effect."""
    import torch

    return nullcontext() if stream is None else torch.cuda.stream(stream)


def current_stream(device: torch.device) -> Any:
    """Return the current stream of a GPU, on which new work is queued."""
    import torch

    return torch.cuda.current_stream(device)
