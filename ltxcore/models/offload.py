"""Block swap: frozen blocks stay in host memory, and a block's matrices are on the device only while it computes. Meanwhile, the next
block's matrices are already being copied.

A matrix is not moved; while its block runs, the layer uses a copy of it. Autograd keeps this copy (with gradient checkpointing, only until
the block has its gradients), while names, checkpoints and adapters always see the same matrix in host memory. Biases, normalizations,
tables and adapters stay on the device, since they are small or trained.

The program queues blocks on the GPU much faster than their matrices arrive. Before it queues a block, it therefore waits until the GPU has
finished the last block but one. Thus the matrices of at most `AT_ONCE` blocks take memory, and the GPU always has a block to work on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.devices import copying_stream, current_stream, is_gpu, on_stream
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.transformer import is_again

Copies = dict[nn.Linear, Parameter]

AT_ONCE = 3
"""The largest number of offloaded blocks with matrices on the device at the same time: the block that computes, the block before and the
block after.
"""


@attrs.define(eq=False)
class Offload:
    """The blocks of a backbone that stay in host memory.

    Attributes:
        device: the device where the blocks compute.
        blocks: the layers with matrices in host memory, for each block in order.
        stream: the stream that copies while another stream computes; None on a CPU, where a copy is made when it is needed.
    """

    device: torch.device
    blocks: Sequence[Sequence[nn.Linear]]
    stream: Any = None
    _hosts: dict[nn.Linear, Tensor] = attrs.field(factory=dict, init=False)
    _coming: dict[int, tuple[Copies, Any]] = attrs.field(factory=dict, init=False)
    _entered: Any = attrs.field(default=None, init=False)
    """The event that marks the beginning of the current block; everything before this block is done by then."""

    def attach(self, modules: Sequence[nn.Module], following: nn.Module | None = None) -> None:
        """Copy the matrices of the blocks in `modules` to the device as they run, and drop the copies afterwards.

        Args:
            modules: the blocks, in order.
            following: the block after `modules`, if there is one; when it is recomputed, the last of `modules` comes next.
        """
        self._hosts = {layer: layer.weight for layers in self.blocks for layer in layers}
        for index, module in enumerate(modules):
            module.register_forward_pre_hook(self._entering(index))
            # The hook also runs if the forward ends early, since checkpointing recomputes a block only as far as the backward pass needs.
            module.register_forward_hook(self._leaving(index), always_call=True)
        if following is not None:
            following.register_forward_pre_hook(self._before_the_last)

    def _entering(self, index: int) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._order(index)
            copies, ready = self._coming.pop(index)
            if ready is not None:
                ready.wait()
            for layer, copy in copies.items():
                if ready is not None:
                    copy.record_stream(current_stream(self.device))
                layer.weight = copy
            following = index - 1 if is_again() else index + 1
            self._coming = {key: value for key, value in self._coming.items() if key == following}
            self._let_the_device_catch_up()
            if 0 <= following < len(self.blocks):
                self._order(following)

        return hook

    def _leaving(self, index: int) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
            for layer in self.blocks[index]:
                layer.weight = cast(Parameter, self._hosts[layer])

        return hook

    def _before_the_last(self, module: nn.Module, inputs: Any) -> None:
        if is_again():
            self._order(len(self.blocks) - 1)

    def _let_the_device_catch_up(self) -> None:
        """Wait until the device has begun the block before this one. It has then finished all earlier blocks, and their copies no longer
        take memory.
        """
        if self.stream is None:
            return
        before, self._entered = self._entered, current_stream(self.device).record_event()
        if before is not None:
            before.synchronize()

    def _order(self, index: int) -> None:
        """Begin to copy a block's matrices, unless this has already begun."""
        if index in self._coming:
            return
        with on_stream(self.stream):
            self._coming[index] = self._copies(index), None if self.stream is None else self.stream.record_event()

    def _copies(self, index: int) -> Copies:
        return {
            layer: Parameter(self._hosts[layer].detach().to(self.device, non_blocking=True, copy=True), requires_grad=False)
            for layer in self.blocks[index]
        }


def place(backbone: LTXBackbone, device: torch.device, offloaded: int = 0) -> None:
    """Move a backbone to its device, but keep the matrices of its first `offloaded` blocks, or of all if there are fewer, in host memory.

    The first blocks are chosen because the last ones are needed again as soon as the backward pass begins. The backbone must not have
    adapters yet, and its matrices cannot be trained afterwards. This saves memory only with gradient checkpointing.
    """
    modules = list(backbone.transformer.transformer_blocks)
    modules, resident = modules[:offloaded], modules[offloaded:]
    if not modules:
        backbone.to(device)
        return
    blocks = [[layer for layer in module.modules() if isinstance(layer, nn.Linear)] for module in modules]
    hosts = {layer: layer.weight.detach() for layers in blocks for layer in layers}
    for layer in hosts:
        layer.register_parameter("weight", None)
    backbone.to(device)
    for layer in list(hosts):
        weight = hosts.pop(layer)  # one at a time, so that at most one matrix is in memory twice
        # Only copies from pinned memory can run during computation.
        layer.weight = Parameter(weight.pin_memory() if is_gpu(device) else weight, requires_grad=False)
    offload = Offload(device, blocks, copying_stream(device))
    offload.attach(modules, resident[0] if resident else None)
