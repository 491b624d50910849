"""Handle running out of memory: explain the error, and free the memory that the error itself holds.

torch is imported only after something has gone wrong, so that programs that do not need it start without it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ltxcore.devices import give_back_gpu_memory, gpu_memory, gpu_memory_of_others, is_gpu, peak_gpu_memory
from ltxcore.errors import OutOfHostMemory, OutOfMemory, is_of_host, is_out_of_memory

if TYPE_CHECKING:
    import torch

WANTED = re.compile(r"[Tt]ried to allocate ([0-9.]+ [KMGT]?i?B|[0-9]+ bytes)")

OTHERS = 2**30
"""The bytes of a GPU that other programs may take before a message mentions them. A context alone takes several hundred
MiB.
"""


@contextlib.contextmanager
def telling(doing: str | Callable[[], str], device: torch.device | str = "cpu", remedy: Callable[[], str] = str) -> Iterator[None]:
    """Return a context that turns running out of memory into an error with an explanation. An error that inner code has
    already explained is left unchanged.

    Args:
        doing: the work, in words that can follow "while", or a function that returns these words. The function is
            called only after memory ran out, before anything is freed.
        device: the device that computes.
        remedy: a function that returns the advice; by default, an outer context adds the advice.

    Raises:
        OutOfMemory: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        kind = OutOfHostMemory if is_of_host(error) or not is_gpu(device) else OutOfMemory
        told = kind(f"{what(error, device)} while {doing if isinstance(doing, str) else doing()}", remedy=remedy())
        let_go(error)
        raise told from None


def what(error: BaseException, device: torch.device | str) -> str:
    """Say which memory ran out, how much of it was in use, and how much there is."""
    wanted = WANTED.search(str(error))
    more = f"; {wanted[1]} more were requested" if wanted else ""
    if is_of_host(error) or not is_gpu(device):
        return f"CPU memory ran out (this process took up to {gib(peak_host_memory())} of the {gib(host_memory())} of this machine{more})"
    others = gpu_memory_of_others(device)
    beside = f", of which other programs use {gib(others)}" if others > OTHERS else ""
    return (
        f"GPU memory ran out (up to {gib(peak_gpu_memory(device))} of the {gib(gpu_memory(device))} of {device} were in use{beside}{more})"
    )


def let_go(error: BaseException) -> None:
    """Free the tensors that an error keeps alive through the frames of its traceback; otherwise torch keeps their
    memory.
    """
    seen: set[int] = set()
    there: BaseException | None = error
    while there is not None and id(there) not in seen:
        seen.add(id(there))
        traceback.clear_frames(there.__traceback__)
        there.__traceback__ = None
        there = there.__cause__ or there.__context__
    give_back_memory()


def give_back_memory() -> None:
    """Free weights and other tensors that are no longer in use, before memory is needed again."""
    gc.collect()
    if "torch" in sys.modules:
        give_back_gpu_memory()


def peak_host_memory() -> int:
    """Return the peak host memory of this process in bytes."""
    try:
        import resource
    except ImportError:  # on Windows
        import psutil  # type: ignore[import-untyped, unused-ignore]

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def host_memory() -> int:
    """Return the size of this machine's memory in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # on Windows, which has no sysconf
        import psutil

        return int(psutil.virtual_memory().total)


def gib(size: int) -> str:
    """Format a number of bytes in GiB, or in MiB if it is small."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:,.1f} MiB"
