"""docs/reference/traffic.md, counted from the real blocks without weights or memory: `python docs/made/traffic.py` writes it, and a test compares."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import attrs
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.nn import Module, Parameter
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.base import released
from ltxcore.models.lora import add_lora
from ltxcore.planner.live import LiveBytes
from ltxcore.protocols import MODALITIES, ModelInput
from pages import DOCS, _table

PAGE = DOCS / "reference" / "traffic.md"
MODEL = "ltx-2.3-22b"
VIDEO, AUDIO, WORDS = 20480, 128, 1024
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
FEW = (2, 3)
"""The numbers of blocks in the models that are run: the difference is one block."""

INTRODUCTION = f"""\
# Traffic of a block

<!-- made by docs/made/traffic.py -->

What one block of LTX-2.3 moves through a GPU's memory in a step, besides its matrix products and attention: the bytes
that all other operations read and write, how many of them are launched, and the bytes that are kept for the backward
pass without gradient checkpointing. Counted for {VIDEO:,} tokens of video, {AUDIO} of audio and {WORDS:,} of text, in bf16
throughout. The last column is for `acceleration.compile = true`: what the kernels of PyTorch's compiler read and write in
the forward and the backward pass, by its own count for a CPU, whose kernels it fuses much as it does a GPU's.

These are counts, not measurements: the block runs on tensors that have shapes but no memory. RMS norm counts as one
operation and attention keeps no scores, as on a GPU. A value that is read by all tokens counts once.
"""


@attrs.frozen
class Way:
    """A way to train: whether a LoRA of rank 32 or all weights, and the noise level of each token as a share of sigma."""

    said: str
    lora: bool
    given: Tensor


WAYS = (
    Way("LoRA, no token given", True, torch.ones(VIDEO)),
    Way("LoRA, a first frame given", True, (torch.arange(VIDEO) >= 1000).float()),
    Way("LoRA, a soft mask of many levels", True, torch.linspace(0, 1, VIDEO)),
    Way("full fine-tuning, no token given", False, torch.ones(VIDEO)),
)


@attrs.frozen
class Counted:
    """What a block moves, launches and keeps."""

    forward_bytes: int
    forward_kernels: int
    backward_bytes: int
    backward_kernels: int
    kept_bytes: int

    def per(self, fewer: Counted) -> Counted:
        """The difference from a model with a block less."""
        return Counted(*(more - less for more, less in zip(attrs.astuple(self), attrs.astuple(fewer), strict=True)))


# ---- counting


class Traffic(TorchDispatchMode):
    """A mode that counts operations and the bytes that they read and write, but for matrix products, attention and views."""

    UNCOUNTED = frozenset({"mm", "addmm", "bmm", "baddbmm", "detach", "empty", "empty_like", "new_empty", "_unsafe_view", "lift_fresh"})

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and name not in self.UNCOUNTED and not name.startswith("_scaled_dot_product"):
            read = {id(each): each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
            self.bytes += sum(_bytes(each) for each in (*read.values(), *tree_leaves(made)) if isinstance(each, Tensor))
            self.kernels += 1
        return made


def _bytes(tensor: Tensor) -> int:
    different = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return math.prod(different) * tensor.element_size()


class GpuKernels(TorchFunctionMode):
    """A mode that gives the meta device those of a GPU's kernels that it lacks."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is F.rms_norm:
            return _Fused.apply(args[0], (kwargs or {}).get("weight"))
        if func is F.scaled_dot_product_attention:
            query, key, value = args
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]
        return func(*args, **(kwargs or {}))


@torch.library.custom_op("traffic::rms_norm", mutates_args=(), device_types="meta")
def _norm(x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)


@torch.library.custom_op("traffic::rms_norm_backward", mutates_args=(), device_types="meta")
def _norm_backward(gradient: Tensor, x: Tensor, inverse: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(0) if weight is None else torch.empty_like(weight)


class _Fused(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        out, inverse = _norm(x, weight)
        ctx.save_for_backward(x, inverse, weight)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        of_x, of_weight = _norm_backward(gradient, *ctx.saved_tensors)
        return of_x, of_weight if ctx.needs_input_grad[1] else None


def of_a_block(way: Way) -> Counted:
    """Count one block between the first and the last."""
    fewer, more = (_of_model(way, count) for count in FEW)
    return more.per(fewer)


def _of_model(way: Way, blocks: int) -> Counted:
    backbone = _hollow(way, blocks)
    streams = _streams(way)
    known = [*backbone.parameters(), *backbone.buffers()]
    with GpuKernels(), LiveBytes(known) as live, Traffic() as traffic:
        velocities = backbone(*streams)
        loss = torch.stack([velocity.mean() for velocity in velocities.values()]).sum()
        forward, kept = (traffic.bytes, traffic.kernels), live.live
        loss.backward()
    return Counted(*forward, traffic.bytes - forward[0], traffic.kernels - forward[1], kept)


def _hollow(way: Way, blocks: int) -> LTXBackbone:
    """A model on the meta device in bf16, whose gradients are dropped as soon as they are complete."""
    backbone = released(MODEL).sketch(frozenset(MODALITIES), blocks)
    backbone.requires_grad_(not way.lora)
    if way.lora:
        add_lora(backbone, rank=32, alpha=32, dropout=0.0, target_modules=TARGETS)
    _materialized(backbone, "meta")
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_drop)
    return backbone


def _materialized(module: Module, device: str) -> None:
    """Give a module parameters in bf16 on a device."""
    for name, parameter in list(module.named_parameters()):
        path, _, own = name.rpartition(".")
        values = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
        module.get_submodule(path).register_parameter(own, Parameter(values, requires_grad=parameter.requires_grad))


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _streams(way: Way) -> tuple[ModelInput, ModelInput]:
    return _stream(VIDEO, 3, 4096, way.given), _stream(AUDIO, 1, 2048, torch.ones(AUDIO))


def _stream(tokens: int, axes: int, width: int, given: Tensor) -> ModelInput:
    there = ModelInput(
        tokens=torch.empty(1, tokens, 128, dtype=torch.bfloat16, device="meta"),
        sigma=torch.full((1,), 0.5),
        timesteps=0.5 * given[None],
        positions=torch.empty(1, axes, tokens, 2, device="meta"),
        context=torch.empty(1, WORDS, width, dtype=torch.bfloat16, device="meta"),
    )
    return there.to("meta")


# ---- counting what is compiled


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
        _materialized(block, "cpu")
        video, audio, *contexts = tree_map(lambda each: _like(each, "cpu") if isinstance(each, Tensor) else each, inputs)
        whole = torch.compile(block, backend=lambda graph, given: graphs.append((graph, given)) or graph.forward, fullgraph=True)
        whole(video.requires_grad_(), audio.requires_grad_(), *contexts)
        ((graph, given),) = graphs
        compile_fx(graph, given)
    forward, backward = moved
    return forward, backward


def _block(way: Way) -> tuple[Module, tuple[Any, ...]]:
    """The second of two blocks, and what it is called with."""
    backbone, found = _hollow(way, 2), []
    block = backbone.transformer.transformer_blocks[1]
    hook = block.register_forward_pre_hook(lambda _, inputs: found.append(inputs))
    with torch.no_grad(), GpuKernels():
        backbone(*_streams(way))
    hook.remove()
    return block, found[0]


def _like(tensor: Tensor, device: str) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


# ---- the page


HEAD = ("one block", "forward", "launched", "backward", "launched", "kept", "compiled")


def line(way: Way, found: Counted, planned: tuple[int, int]) -> str:
    """The row of a way in the table."""
    forward, backward = (
        (_gb(moved), str(launched))
        for moved, launched in ((found.forward_bytes, found.forward_kernels), (found.backward_bytes, found.backward_kernels))
    )
    return _table(HEAD, [(way.said, *forward, *backward, _gb(found.kept_bytes), " + ".join(map(_gb, planned)))]).splitlines()[-1]


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def page() -> str:
    head = _table(HEAD, ())
    return "\n".join([INTRODUCTION, head + "\n".join(line(way, of_a_block(way), compiled(way)) for way in WAYS), ""])


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    sys.exit(main())
