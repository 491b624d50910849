"""Count the bytes that the kernels of PyTorch's compiler move for a block, without compiling for a GPU or running anything."""

from __future__ import annotations

import warnings
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module
from torch.utils._pytree import tree_map

from counted import Way, gpu_kernels, hollow, materialized, streams


class _NotMade:
    """What takes the place of compiled code, which is never run."""

    key = path = __file__ = "not made"
    call = None


def compiled(way: Way) -> tuple[int, int]:
    """The bytes that inductor's kernels for one block will move in the forward and in the backward, by its own count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch's own modules use
        return _compiled(way)


def _compiled(way: Way) -> tuple[int, int]:
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import ExternKernelSchedulerNode

    moved: list[int] = []

    def planned(graph: GraphLowering) -> type[_NotMade]:
        graph.codegen()
        _, nodes, _ = graph.count_bytes()
        moved.append(sum(4 * size for node, size in nodes if not isinstance(node, ExternKernelSchedulerNode)))
        return _NotMade

    block, inputs = _block(way)
    graphs: list[tuple[Any, list[Tensor]]] = []
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        patch.object(GraphLowering, "compile_to_module", planned),
        inductor.patch(force_disable_caches=True),
        functorch.patch(force_non_lazy_backward_lowering=True),
    ):
        materialized(block, "cpu")
        video, audio, *contexts = tree_map(lambda each: _like(each, "cpu") if isinstance(each, Tensor) else each, inputs)
        for stream in (video, audio):
            if isinstance(stream, Tensor):
                stream.requires_grad_()
        whole = torch.compile(block, backend=lambda graph, given: graphs.append((graph, given)) or graph.forward, fullgraph=True)
        whole(video, audio, *contexts)
        ((graph, given),) = graphs
        compile_fx(graph, given)
    forward, backward = moved
    return forward, backward


def _block(way: Way) -> tuple[Module, tuple[Any, ...]]:
    """The second of two blocks, and what it is called with."""
    backbone, found = hollow(way, 2), []
    block = backbone.transformer.transformer_blocks[1]
    hook = block.register_forward_pre_hook(lambda _, inputs: found.append(inputs))
    with torch.no_grad(), gpu_kernels():
        backbone(*streams(way))
    hook.remove()
    return block, found[0]


def _like(tensor: Tensor, device: str) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
