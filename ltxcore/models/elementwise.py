"""The operations of a block between its matrix products, written to move few bytes, and to keep few bytes for the backward pass.

Each operation is a function of tensors of any floating dtype. Operations with their own backward keep their inputs rather than intermediate
results, and `torch.compile` traces them like any other operation.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Rotary = tuple[Tensor, Tensor]
"""The cosines and sines for pairs of channels: `[B, T, H, C // 2H]` if channels are paired across the halves of a head, `[B, T, C // 2]` if
neighboring channels are paired.
"""


class Rows(NamedTuple):
    """Rows of values that scale, shift or gate tokens.

    Attributes:
        values: one row for all tokens, or one for each token, `[B, 1 or T, C]`; or K rows per sample, in which case a separate `row_of`,
            `[B, T]`, says which row each token takes, counted over the whole batch.
        own: values to add to every row, `[C]`; None for none. They are added only on use, so that the sum is not kept in memory.
    """

    values: Tensor
    own: Tensor | None = None


def rms_norm(x: Tensor, eps: float, weight: Tensor | None = None) -> Tensor:
    """Divide `x` by its root mean square over the last dimension; the result has the dtype of `x`.

    Only `x` and one number per row are kept for the backward pass. GPUs have a kernel for this; for the CPU, we have our own. Autocast is
    off, since it would turn `x` into float32 first, although the kernel computes in float32 anyway.

    Source: docs/explanation/arithmetic.md#modulation
    """
    if x.device.type == "cpu":
        normed: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return normed
    with _without_autocast(x.device.type):
        return F.rms_norm(x, x.shape[-1:], weight, eps)


def scaled(x: Tensor, scale: Rows, shift: Rows, row_of: Tensor | None = None) -> Tensor:
    """Return `x * (1 + scale) + shift` for tokens `[B, T, C]`.

    Source: docs/explanation/arithmetic.md#modulation
    """
    if _is_plain(scale, row_of):
        return torch.addcmul(shift.values, x, 1 + scale.values)
    result: Tensor = _ProductAdded.apply(x, *scale, *shift, row_of, 1.0)  # type: ignore[no-untyped-call]
    return result


def added(hidden: Tensor, x: Tensor, gate: Rows, row_of: Tensor | None = None) -> Tensor:
    """Return `hidden + x * gate` for tokens `[B, T, C]`.

    Source: docs/explanation/arithmetic.md#modulation
    """
    if _is_plain(gate, row_of):
        return torch.addcmul(hidden, x, gate.values)
    result: Tensor = _ProductAdded.apply(x, *gate, hidden, None, row_of, 0.0)  # type: ignore[no-untyped-call]
    return result


def _is_plain(rows: Rows, row_of: Tensor | None) -> bool:
    return rows.own is None and (row_of is None or rows.values.shape[1] == 1)


def rotated(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate the pairs of channels in `[B, T, C]`, in the dtype of `x`.

    Source: docs/explanation/arithmetic.md#rotary-positions
    """
    turned: Tensor = _Rotated.apply(x, *(table.to(x.dtype) for table in rotary))  # type: ignore[no-untyped-call]
    return turned


def has_autocast(device: str) -> bool:
    """Return whether autocast is on for a kind of device. If it is, the dtype of matrix products can differ from that of their inputs."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, enabled=False) if has_autocast(device) else nullcontext()


class _RmsNorm(torch.autograd.Function):
    """An RMS norm that takes few passes over the memory of a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse, weight)
        normed = torch.mul(x, inverse, out=torch.empty_like(x))
        return normed if weight is None else normed.mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, inverse, weight = ctx.saved_tensors
        of_weight = None
        if weight is not None:
            if ctx.needs_input_grad[1]:
                of_weight = (grad * x).mul_(inverse).flatten(0, -2).sum(0)
            grad = grad * weight
        product = grad * x
        inner = product.sum(-1, keepdim=True, dtype=torch.float32)
        slope = (inner * inverse.pow(3)).div_(-x.shape[-1])
        return torch.mul(grad, inverse, out=product).addcmul_(x, slope.to(x.dtype)), of_weight, None


class _ProductAdded(torch.autograd.Function):
    """The function `x * (factor + constant) + offset`. The factor is in rows, and the offset in rows or tokens; rows expanded to tokens are
    not kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        factor: Tensor,
        factor_own: Tensor | None,
        offset: Tensor,
        offset_own: Tensor | None,
        row_of: Tensor | None,
        constant: float,
    ) -> Tensor:
        ctx.constant, ctx.offset_shape = constant, offset.shape
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:3]) else None, factor, factor_own, row_of)
        return torch.addcmul(_taken(offset, offset_own, row_of, x), x, _taken(factor, factor_own, row_of, x, constant))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, factor, own, row_of = ctx.saved_tensors
        of_x, of_factor, of_factor_own, of_offset, of_offset_own = ctx.needs_input_grad[:5]
        return (
            grad * _taken(factor, own, row_of, grad, ctx.constant) if of_x else None,
            *(_shares(grad * x, row_of, factor.shape, of_factor_own) if of_factor or of_factor_own else (None, None)),
            *(_shares(grad, row_of, ctx.offset_shape, of_offset_own) if of_offset or of_offset_own else (None, None)),
            None,
            None,
        )


def _taken(rows: Tensor, own: Tensor | None, row_of: Tensor | None, tokens: Tensor, constant: float = 0.0) -> Tensor:
    """Return the values that each token takes, `[B, T, C]`, or `[B, 1, C]` if all tokens take the same values."""
    rows = rows if own is None else rows + own
    rows = rows + constant if constant else rows
    return rows if row_of is None or rows.shape[1] == tokens.shape[1] else F.embedding(row_of, rows.flatten(0, 1))


def _shares(tokens: Tensor, row_of: Tensor | None, shape: torch.Size, of_own: bool) -> tuple[Tensor, Tensor | None]:
    """Compute, from the gradients of the tokens, those of the rows and of what is added to every row."""
    rows = tokens if row_of is None or shape[1] == tokens.shape[1] else _gathered(tokens, row_of, shape)
    return rows, rows.sum((0, 1)) if of_own else None


def _gathered(tokens: Tensor, row_of: Tensor, shape: torch.Size) -> Tensor:
    """Sum the tokens that take each row. This is done by a matrix product, since adding to rows in place has no fixed order on a GPU."""
    members = F.one_hot(row_of.flatten(), shape[0] * shape[1]).to(tokens.dtype)
    return (members.mT @ tokens.flatten(0, 1)).view(shape)


class _Rotated(torch.autograd.Function):
    """The rotation of pairs; its backward is the opposite rotation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turned(x, cosines, sines, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turned(grad, cosines, sines, -1.0), None, None


def _turned(x: Tensor, cosines: Tensor, sines: Tensor, direction: float) -> Tensor:
    """Multiply pairs of channels, as complex numbers, by `cosines + i * direction * sines`."""
    by_head = cosines.ndim == 4
    pairs = x.unflatten(-1, (cosines.shape[2], 2, -1) if by_head else (-1, 2))
    among = -2 if by_head else -1
    out = pairs * cosines.unsqueeze(among)
    first, second = pairs.unbind(among)
    out.select(among, 0).addcmul_(second, sines, value=-direction)
    out.select(among, 1).addcmul_(first, sines, value=direction)
    return out.flatten(-3 if by_head else -2)
