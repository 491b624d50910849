"""The programs that compute attention, by the names that `acceleration.attention` and `ltx sample --attention` take.

All of them compute the same numbers, except for rounding; sage rounds queries and keys to 8 bits. Where a program does not take a bias, or
heads of some width, torch's own attention takes its place for that call.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

from ltxcore.config.acceleration import AttentionName
from ltxcore.config.packages import lacking
from ltxcore.errors import ConfigError

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float | None], Tensor]
"""A function of queries `[B, H, T, C]`, keys and values `[B, H, S, C]`, the bias of the scores `[B, 1, T or 1, S]` and the factor of the
scores, which is `C ** -0.5` if it is None. It returns `[B, H, T, C]`.
"""

TRIED = 16
"""The number of tokens on which a kernel is tried before a run."""


@attrs.frozen(eq=False)
class Kernel:
    """A program that computes attention.

    Attributes:
        name: its name in run files.
        attend: the function that computes attention.
        takes_bias: whether the function takes a bias.
        widest: the largest width of a head that the function takes.
        trains: whether gradients pass through it.
        half: whether it computes in 16 bits only.
        on_gpu: whether it needs a GPU.
        needs: the package that it needs, by its name in Python, with the command that installs it.
    """

    name: AttentionName
    attend: Attend
    takes_bias: bool = True
    widest: int = 256
    trains: bool = True
    half: bool = False
    on_gpu: bool = False
    needs: Mapping[str, str] = attrs.field(factory=dict)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
        """Return the output of attention, `[B, H, T, C]`. See `Attend`."""
        if (bias is None or self.takes_bias) and query.shape[-1] <= self.widest:
            return self.attend(query, key, value, bias, scale)
        return _by_torch(query, key, value, bias, scale)


def _by_torch(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def _by_torchs_flash(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(query, key, value, scale=scale)


def _by_flash_3(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    """Call the package itself, because the function that diffusers makes of it passes no gradients."""
    from flash_attn_interface import flash_attn_func  # type: ignore[import-not-found, unused-ignore]

    found = flash_attn_func(*(each.transpose(1, 2) for each in (query, key, value)), softmax_scale=scale)
    attended: Tensor = found[0] if isinstance(found, tuple) else found  # some versions also return one number for each query
    return attended.transpose(1, 2)


def _by_sage(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    tokens_first = (each.transpose(1, 2) for each in (query, key, value))
    attended: Tensor = dispatch_attention_fn(*tokens_first, scale=scale, backend=AttentionBackendName.SAGE)
    return attended.transpose(1, 2)


def _by_flex(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    with_bias = None
    if bias is not None:
        biases = bias.expand(query.shape[0], 1, query.shape[2], key.shape[2])

        def with_bias(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
            return score + biases[batch, 0, row, column]

    if torch.compiler.is_compiling():
        attended: Tensor = flex_attention(query, key, value, score_mod=with_bias, scale=scale)  # a compiled block compiles it too
    elif query.device.type == "cpu":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flex_attention called without torch.compile")  # for a CPU, there is nothing to compile to
            attended = flex_attention(query, key, value, score_mod=with_bias, scale=scale)
    else:
        attended = _compiled_flex()(query, key, value, score_mod=with_bias, scale=scale)  # otherwise, it would make a tensor of all scores
    return attended


@functools.cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention)


SDPA = Kernel("sdpa", _by_torch)
"""Torch's own attention, which chooses one of torch's kernels for each call."""

KERNELS: Mapping[AttentionName, Kernel] = {
    "auto": SDPA,
    "sdpa": SDPA,
    "flash": Kernel("flash", _by_torchs_flash, takes_bias=False),
    "flash3": Kernel(
        "flash3",
        _by_flash_3,
        takes_bias=False,
        half=True,
        on_gpu=True,
        needs={"flash_attn_interface": 'pip install "git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper"'},
    ),
    "sage": Kernel(
        "sage",
        _by_sage,
        takes_bias=False,
        widest=128,
        trains=False,
        half=True,
        on_gpu=True,
        needs={"sageattention": 'pip install "git+https://github.com/thu-ml/SageAttention"'},
    ),
    "flex": Kernel("flex", _by_flex),
}
"""The kernels by name. "auto" is torch's own attention: on the newest GPUs it is about as fast as the others."""


def tried(
    name: AttentionName,
    widths: Iterable[int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    training: bool,
    where: str = "acceleration.attention",
) -> Kernel:
    """Return a kernel, after it has computed attention on a few tokens.

    Args:
        name: the name of the kernel.
        widths: the widths of the model's heads.
        device: the device of the model.
        dtype: the dtype of queries, keys and values.
        training: whether gradients have to pass through it.
        where: the place where the user names it.

    Raises:
        ConfigError: its package is missing, or it does not work with this device, dtype or width; the error has the reason that its library
            gives.
    """
    kernel = KERNELS[name]
    for what, remedy in lacking(kernel, name, "auto"):
        raise ConfigError(what, where=where, remedy=remedy)
    for width in sorted(set(widths)):
        tokens = torch.zeros(1, 1, TRIED, width, device=device, dtype=dtype, requires_grad=training)
        try:
            with torch.set_grad_enabled(training):
                attended = kernel(tokens, tokens, tokens)
            if training:
                attended.sum().backward()
        except (RuntimeError, ValueError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            to = "train" if training else "compute"
            what = f'"{name}" cannot {to} on {device} in {str(dtype).removeprefix("torch.")} with heads of width {width}: {reason}'
            raise ConfigError(what, where=where, remedy='Use "auto".') from error
    return kernel


def said(name: AttentionName, widths: Iterable[int], device: torch.device, dtype: torch.dtype) -> str:
    """Describe the kernel that a name stands for and, if torch chooses the kernel, its choice for heads of the largest of these widths."""
    kernel = KERNELS[name]
    if kernel is not SDPA:
        return kernel.name
    tokens = torch.zeros(1, 1, TRIED, max(widths), device=device, dtype=dtype)
    choice = SDPBackend(torch._fused_sdp_choice(tokens, tokens, tokens)).name
    return f"{kernel.name}, for which torch takes {choice.removesuffix('_ATTENTION').lower().replace('_', ' ')} here"
