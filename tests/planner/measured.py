"""Tensor bytes of a run as they really are: what the garbage collector and autograd hold at the boundaries of a step.

Nothing here counts operations, as the predictions do: tensors are found by walking what is alive.
"""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Iterable, Iterator

import attrs
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


@attrs.define
class Measured:
    """Bytes of a process at the peak of each."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    saved: int = 0
    rss: int = 0
    average: int = 0


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of the storages of some tensors, each once."""
    return sum(sizes(tensors).values())


def sizes(tensors: Iterable[Tensor]) -> dict[int, int]:
    found = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.nbytes():
            found[storage.data_ptr()] = storage.nbytes()
    return found


def alive() -> Iterator[Tensor]:
    """All tensors with memory that Python knows of; what other tests left behind may be sparse, or have none."""
    gc.collect()
    for each in gc.get_objects():
        if (
            issubclass(type(each), Tensor)
            and not isinstance(each, FakeTensor)
            and each.layout == torch.strided
            and not each.is_meta
            and _has_memory(each)
        ):
            yield each


def _has_memory(tensor: Tensor) -> bool:
    try:
        tensor.untyped_storage().data_ptr()
    except RuntimeError:  # the shape of a tensor alone, with which the planner computes
        return False
    return True


@attrs.define
class Activations:
    """Tensors that are alive when the backward begins, and were not when the forward began.

    What autograd saves goes through hooks that give it back as it is, which makes it an object of Python's, so that it is found. What checkpointing keeps
    to compute a block again is in Python's frames.
    """

    _before: set[int] = attrs.field(factory=set, init=False)
    _hooks: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack, init=False)

    def begin(self) -> None:
        """Before a forward."""
        self._before = set(sizes(alive()))
        self._hooks.enter_context(torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor))

    def end(self, others: Iterable[Tensor]) -> int:
        """Before the backward: bytes, without those of `others`: weights, gradients and the optimizer, wherever they are held."""
        self._hooks.close()
        known = self._before | sizes(others).keys()
        return sum(size for key, size in sizes(alive()).items() if key not in known)


def rss() -> int:
    """The most memory that this process has used, as the system counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
