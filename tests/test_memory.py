"""Memory that runs out: which errors say so, what is told, and that nothing is held afterwards."""

from __future__ import annotations

import errno
import gc
import os
import weakref

import psutil  # noqa: F401  it asks os.sysconf when it is imported, on Linux
import pytest
import torch

from helpers.refusing import MESSAGE, without_sizes
from ltxcore.errors import DataError, OutOfHostMemory, OutOfMemory, ProcessError, is_of_host, is_out_of_memory
from ltxcore.memory import gib, host_memory, let_go, telling

DEVICE = (
    torch.OutOfMemoryError(MESSAGE),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("NCCL Error 1: unhandled cuda error; Cuda failure 2 'out of memory'"),
)
HOST = (
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes."
    ),
    RuntimeError("unable to mmap 64 bytes from file <x>: Cannot allocate memory (12)"),
)
OTHERS = (
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    OSError(errno.ENOSPC, "No space left on device"),
    ProcessError("process 1 of 3 ended without a message (it was killed, or ran out of memory), so this run ends"),
    OutOfMemory("GPU memory ran out"),
)


@pytest.mark.parametrize("error", [*DEVICE, *HOST], ids=str)
def test_memory_that_ran_out_is_known_whoever_says_so(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert is_of_host(error) == (error in HOST)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_and_those_that_are_told_already_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_what_was_done_how_much_there_is_and_what_was_asked_for_are_said() -> None:
    with pytest.raises(OutOfMemory) as caught, telling("drawing", remedy=lambda: "Draw less."):
        raise torch.OutOfMemoryError(MESSAGE)
    assert without_sizes(str(caught.value)) == (
        "CPU memory ran out (this process took up to SOME; 2.00 GiB more were requested) while drawing\n    Draw less."
    )


def test_host_memory_is_another_error_than_that_of_a_gpu() -> None:
    with pytest.raises(OutOfHostMemory), telling("reading"):
        raise MemoryError


def test_any_other_error_passes_as_it_is() -> None:
    for error in (ValueError("no"), RuntimeError("no"), DataError("no")):
        with pytest.raises(type(error)) as caught, telling("drawing"):
            raise error
        assert caught.value is error


def test_what_is_told_within_is_told_once() -> None:
    with pytest.raises(OutOfMemory, match=r"while drawing a disc$"), telling("drawing"), telling("drawing a disc"):
        raise MemoryError


def test_the_tensors_that_an_error_came_through_are_let_go() -> None:
    class Held:
        pass

    kept: list[weakref.ref[Held]] = []

    def inner() -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise MemoryError(str(held))

    def outer() -> None:
        try:
            inner()
        except MemoryError as error:
            raise RuntimeError("out of memory") from error

    found: Exception | None = None
    try:
        outer()
    except RuntimeError as error:
        found = error
    gc.collect()
    assert kept[0]() is not None
    assert found is not None
    let_go(found)
    assert kept[0]() is None


def test_sizes_are_told_in_gib_or_where_they_are_small_in_mib() -> None:
    assert [gib(23 * 2**30), gib(3 * 2**20)] == ["23.0 GiB", "3.0 MiB"]


def test_the_memory_of_a_machine_is_known_without_sysconf_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = host_memory()
    monkeypatch.delattr(os, "sysconf")
    assert host_memory() == pytest.approx(before, rel=0.05)
