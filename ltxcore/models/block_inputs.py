"""Activation offload: with gradient checkpointing, the inputs of the blocks wait in host memory for the backward pass, which recomputes each
block from its inputs.

A copy to host memory runs while the block computes, and the next block does not begin before the copy is complete. In the backward pass,
the inputs of the block before are copied back while a block is recomputed. Thus the inputs of at most `AT_ONCE` blocks take memory of the
device, however many blocks there are.

The program queues the backward pass on the GPU much faster than the GPU computes it. Before it asks for the inputs of another block, it
therefore waits until the GPU has begun the block before that, as `models.offload` does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ltxcore.devices import copying_stream, current_stream, on_stream

AT_ONCE = 3
"""The largest number of blocks whose inputs take memory of the device at the same time: the block that computes, the block before it, and
the block after it, which the device may not have finished.
"""


@attrs.define(eq=False)
class _Waiting:
    """The inputs of one block in one pass.

    Attributes:
        before: returns the inputs of the block before, or None if they are no longer needed.
        hosts: the inputs in host memory.
        coming: the inputs that were fetched and not yet used, by their places in `hosts`.
        arrived: the event that marks the end of the fetch; None on a CPU.
    """

    before: Callable[[], _Waiting | None]
    hosts: list[Any] = attrs.field(factory=list)
    coming: dict[int, Tensor] = attrs.field(factory=dict)
    arrived: Any = None


@attrs.define(eq=False)
class BlockInputs:
    """The place where the inputs of recomputed blocks wait.

    Attributes:
        device: the device where the blocks compute.
        stream: the stream that copies while another stream computes; None on a CPU, where a copy is made at once.
    """

    device: torch.device
    stream: Any = None
    _last: Callable[[], _Waiting | None] = attrs.field(default=lambda: None, init=False)
    _leaving: list[tuple[Tensor, Any]] = attrs.field(factory=list, init=False)
    """The inputs of the last block, each with the event that marks the end of its copy to host memory."""
    _entered: Any = attrs.field(default=None, init=False)
    """The event that marks the beginning of the block that was last recomputed."""

    @classmethod
    def on(cls, device: torch.device) -> BlockInputs:
        """Return the place for blocks that compute on a device."""
        return cls(device, copying_stream(device))

    def of_block(self) -> AbstractContextManager[Any]:
        """Return a context for the call of one block with gradient checkpointing, whose inputs then wait in host memory.

        Of all tensors, autograd saves only the block's inputs by the hooks of this context, because checkpointing has hooks of its own for
        the tensors inside the block.
        """
        self._let_go()
        waiting = _Waiting(self._last)
        self._last = weakref.ref(waiting)

        def pack(tensor: Tensor) -> Callable[[], Tensor]:
            place = len(waiting.hosts)
            waiting.hosts.append(self.to_host(tensor))
            return lambda: self._taken(waiting, place)

        return saved_tensors_hooks(pack, lambda take: take())

    def to_host(self, tensor: Tensor) -> Any:
        """Begin to copy a tensor to host memory, and return an object from which `to_device` makes the tensor again."""
        if self.stream is not None:
            self.stream.wait_stream(current_stream(self.device))
        with on_stream(self.stream):
            host = tensor.detach().to("cpu", non_blocking=True, copy=True)  # from a GPU, into pinned memory
            if self.stream is not None:
                self._leaving.append((tensor, self.stream.record_event()))
        return host

    def to_device(self, host: Any) -> Tensor:
        """Begin to copy a tensor back to the device."""
        copy: Tensor = host.to(self.device, non_blocking=True, copy=True)
        return copy

    def _let_go(self) -> None:
        """Let the device wait for the copies of the last block's inputs, which then need not be held any longer."""
        for _, done in self._leaving:
            current_stream(self.device).wait_event(done)
        self._leaving.clear()

    def _taken(self, waiting: _Waiting, place: int) -> Tensor:
        """Return one input of a block, and, with the first one, begin to fetch those of the block before."""
        if place not in waiting.coming:
            self._let_go()
            self._fetch(waiting)
        if waiting.arrived is not None:
            current_stream(self.device).wait_event(waiting.arrived)
        tensor = waiting.coming.pop(place)
        if self.stream is not None:
            tensor.record_stream(current_stream(self.device))
        before = waiting.before()
        if place == 0 and before is not None:
            self._let_the_device_catch_up()
            self._fetch(before)
        return tensor

    def _fetch(self, waiting: _Waiting) -> None:
        with on_stream(self.stream):
            waiting.coming = dict(enumerate(map(self.to_device, waiting.hosts)))
            waiting.arrived = None if self.stream is None else self.stream.record_event()

    def _let_the_device_catch_up(self) -> None:
        """Wait until the device has begun the block that was recomputed before this one."""
        if self.stream is None:
            return
        last, self._entered = self._entered, current_stream(self.device).record_event()
        if last is not None:
            last.synchronize()
