"""Room on the device for as long as nothing is trained: the optimiser's state in host memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ltxcore.devices import is_gpu

Place = tuple[dict[Any, Any], str]
"""The state of a parameter, and the name of a tensor in it."""


@contextmanager
def state_in_host_memory(optimizer: Optimizer) -> Iterator[None]:
    """Meanwhile the tensors of an optimiser's state are in host memory, and afterwards where they were, with the same bits.

    One that several parameters share, as the tables of an optimiser of 8 bits are, moves once and is shared afterwards too. What is on the CPU
    already is left alone.
    """
    moved: list[tuple[list[Place], torch.device]] = []
    try:
        for places in _shared(optimizer):
            device = _at(places).device
            if device.type != "cpu":
                _put(places, in_host_memory(_at(places)))
                moved.append((places, device))
        yield
    finally:
        for places, device in moved:
            _put(places, _at(places).to(device))


def in_host_memory(tensor: Tensor) -> Tensor:
    """A copy on the CPU; pinned where it comes from a GPU, since a copy from and to pageable memory takes several times as long."""
    host = torch.empty_like(tensor, device="cpu", pin_memory=is_gpu(tensor.device))
    return host.copy_(tensor)


def _shared(optimizer: Optimizer) -> list[list[Place]]:
    """Where each tensor of the state is. Only places are kept: a tensor that is kept would keep its memory."""
    found: dict[int, list[Place]] = {}
    for state in optimizer.state.values():
        for kind, value in state.items():
            if isinstance(value, torch.Tensor):
                found.setdefault(id(value), []).append((state, kind))
    return list(found.values())


def _at(places: list[Place]) -> Tensor:
    state, kind = places[0]
    found: Tensor = state[kind]
    return found


def _put(places: list[Place], tensor: Tensor) -> None:
    for state, kind in places:
        state[kind] = tensor
