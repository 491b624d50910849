"""Count what training steps of LTX-2.3 cost, by running its blocks without weights or memory: floating-point operations, the bytes that
all but matrix products and attention move, launches, and what is kept for the backward pass.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import attrs
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Module, Parameter
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.base import released
from ltxcore.models.lora import add_lora
from ltxcore.planner.live import LiveBytes
from ltxcore.protocols import ModelInput

MODEL = "ltx-2.3-22b"
VIDEO, AUDIO, WORDS = 20480, 128, 1024
ALONE = 500
"""The tokens of audio where there is no video: 20 seconds."""

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
FEW = (2, 3)
"""The numbers of blocks in the models that are run: the difference is one block."""


@attrs.frozen
class Way:
    """A way to train.

    Attributes:
        said: what it is, in the tables.
        audio: the noise level of each token of audio, as a share of sigma.
        video: the noise level of each token of video; None if the model is trained on audio alone.
        lora: whether a LoRA of rank 32 is trained, or else all weights.
    """

    said: str
    audio: Tensor
    video: Tensor | None
    lora: bool = True


WAYS = (
    Way("LoRA, no token given (T2V)", torch.ones(AUDIO), torch.ones(VIDEO)),
    Way("LoRA, a first frame given (I2V)", torch.ones(AUDIO), (torch.arange(VIDEO) >= 1000).float()),
    Way("LoRA, a reference of half the size (IC-LoRA)", torch.ones(AUDIO), (torch.arange(VIDEO + VIDEO // 4) < VIDEO).float()),
    Way("LoRA, a soft mask of many levels", torch.ones(AUDIO), torch.linspace(0, 1, VIDEO)),
    Way("LoRA, audio alone (T2A)", torch.ones(ALONE), None),
    Way("full fine-tuning, no token given", torch.ones(AUDIO), torch.ones(VIDEO), lora=False),
)


@attrs.frozen
class Counted:
    """What a pass forward and one backward calculate, move, launch and keep.

    Attributes:
        flops: the floating-point operations of matrix products and attention, forward and backward.
        moved: the bytes that all other operations read and write.
        kernels: the number of these other operations.
        kept: the bytes that are kept between the two passes.
    """

    forward_flops: int
    forward_bytes: int
    forward_kernels: int
    backward_flops: int
    backward_bytes: int
    backward_kernels: int
    kept_bytes: int

    def per(self, fewer: Counted) -> Counted:
        """The difference from a model with a block less."""
        return Counted(*(more - less for more, less in zip(attrs.astuple(self), attrs.astuple(fewer), strict=True)))

    def extended(self, block: Counted, blocks: int) -> Counted:
        """The sum of this and of a number of further blocks."""
        return Counted(*(own + blocks * each for own, each in zip(attrs.astuple(self), attrs.astuple(block), strict=True)))


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


@contextlib.contextmanager
def gpu_kernels() -> Iterator[None]:
    """Give the meta device those of a GPU's kernels that it lacks. They are replaced in their module, since the second forward of gradient
    checkpointing runs without the modes of the first.
    """
    with patch.object(F, "rms_norm", _rms_norm), patch.object(F, "scaled_dot_product_attention", _attention):
        yield


def _rms_norm(x: Tensor, _shape: list[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    normed: Tensor = _Fused.apply(x, weight)
    return normed


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: None = None, scale: None = None) -> Tensor:
    assert attn_mask is None, "a flash kernel takes no mask"
    attended: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]
    return attended


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
    """Count one block between the first and the last, without gradient checkpointing."""
    fewer, more = (_of_model(way, count, checkpointing=False) for count in FEW)
    return more.per(fewer)


def of_a_step(way: Way) -> Counted:
    """Count the passes of a step through the whole model, with gradient checkpointing: the backward pass includes the second forward."""
    fewer, more = (_of_model(way, count, checkpointing=True) for count in FEW)
    return more.extended(more.per(fewer), released(MODEL).num_layers - FEW[1])


def _of_model(way: Way, blocks: int, *, checkpointing: bool) -> Counted:
    backbone = hollow(way, blocks)
    backbone.transformer.gradient_checkpointing = checkpointing
    inputs = streams(way)
    known = [*backbone.parameters(), *backbone.buffers()]
    with gpu_kernels(), LiveBytes(known) as live, FlopCounterMode(display=False) as flops, Traffic() as traffic:
        velocities = backbone(*inputs)
        loss = torch.stack([velocity.mean() for velocity in velocities.values()]).sum()
        forward, kept = (flops.get_total_flops(), traffic.bytes, traffic.kernels), live.live
        loss.backward()
    both = (flops.get_total_flops(), traffic.bytes, traffic.kernels)
    return Counted(*forward, *(whole - part for whole, part in zip(both, forward, strict=True)), kept)


def hollow(way: Way, blocks: int) -> LTXBackbone:
    """Return a model on the meta device in bf16, whose gradients are dropped as soon as they are complete."""
    backbone = released(MODEL).sketch(frozenset({"audio"} if way.video is None else {"video", "audio"}), blocks)
    backbone.requires_grad_(not way.lora)
    if way.lora:
        add_lora(backbone, rank=32, alpha=32, dropout=0.0, target_modules=TARGETS)
    materialized(backbone, "meta")
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_drop)
    return backbone


def materialized(module: Module, device: str) -> None:
    """Give a module parameters in bf16 on a device, without values."""
    for name, parameter in list(module.named_parameters()):
        path, _, own = name.rpartition(".")
        values = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
        module.get_submodule(path).register_parameter(own, Parameter(values, requires_grad=parameter.requires_grad))


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def streams(way: Way, device: str = "meta") -> tuple[ModelInput | None, ModelInput]:
    """Return what the model is called with."""
    return None if way.video is None else _stream(way.video, 3, 4096).to(device), _stream(way.audio, 1, 2048).to(device)


def _stream(levels: Tensor, axes: int, width: int) -> ModelInput:
    tokens = len(levels)
    return ModelInput(
        tokens=torch.empty(1, tokens, 128, dtype=torch.bfloat16),
        sigma=torch.full((1,), 0.5),
        timesteps=0.5 * levels[None],
        positions=torch.empty(1, axes, tokens, 2),
        context=torch.empty(1, WORDS, width, dtype=torch.bfloat16),
    )
