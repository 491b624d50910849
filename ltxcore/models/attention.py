"""The attention and normalization of a block, with the names of diffusers' modules and our own forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.config.acceleration import AttentionName
from ltxcore.models.attention_kernels import SDPA, Kernel, said, tried
from ltxcore.models.elementwise import Rotary, rms_norm, rotated
from ltxcore.models.grouped_attention import Groups, attention_in_groups
from ltxcore.models.sequence_parallel import Division, attend_divided


class Norm(nn.Module):
    """An RMS norm with or without a weight.

    If there is a weight, the norm is computed in the weight's dtype, whatever the input's dtype. Under autocast the input may be bf16 and
    the weight float32, and PyTorch has no fast kernel for this combination.
    """

    weight: Parameter | None

    def __init__(self, norm: Any) -> None:
        """Take the weight from `norm`, a module of PyTorch or diffusers."""
        super().__init__()
        self.eps: float = norm.eps
        self.register_parameter("weight", norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return rms_norm(x, self.eps)
        return rms_norm(x.to(self.weight.dtype), self.eps, self.weight).to(x.dtype)


class Attention(nn.Module):
    """An attention module with normalized and rotated queries and keys and, since LTX-2.3, with a gate for each head.

    Attributes:
        heads: the number of heads.
        width: the width of a head.
        kernel: the program that computes attention.

    Source: docs/explanation/arithmetic.md#attention
    """

    def __init__(self, attention: Any) -> None:
        """Take the submodules from `attention`, a module of diffusers."""
        super().__init__()
        self.heads: int = attention.heads
        self.width: int = attention.head_dim
        self.kernel: Kernel = SDPA
        for name, child in attention.named_children():
            self.add_module(name, ours(child))

    def forward(
        self,
        hidden: Tensor,
        source: Tensor | None = None,
        bias: Tensor | None = None,
        rotary: Rotary | None = None,
        source_rotary: Rotary | None = None,
        passes: bool = False,
        groups: Groups | None = None,
        divisions: tuple[Division, Division] | None = None,
    ) -> Tensor:
        """Attend from the tokens `hidden` to the tokens `source`, or to `hidden` itself.

        Args:
            hidden: the tokens that queries are made of, `[B, T, C]`.
            source: the tokens that keys and values are made of, `[B, S, E]`; None for `hidden`.
            bias: the bias of the scores, `[B, T or 1, S]`.
            rotary: the rotary angles of `hidden`; None for no rotation.
            source_rotary: the rotary angles of `source`; None for `rotary`.
            passes: whether values are passed through without attention.
            groups: the groups of tokens that attend to each other with weights, for attention of `hidden` to itself without a bias; None if
                all tokens attend to each other alike.
            divisions: the divisions, among processes, of the tokens that `hidden` and `source` are this process's parts of; None if they
                are whole. A bias or groups are then those of all tokens.
        """
        part: Any = self.__getattr__
        source = hidden if source is None else source
        value = part("to_v")(source)
        if passes:
            attended = value.unflatten(-1, (self.heads, -1))
        else:
            query, key = part("norm_q")(part("to_q")(hidden)), part("norm_k")(part("to_k")(source))
            if rotary is not None:
                query, key = rotated(query, rotary), rotated(key, rotary if source_rotary is None else source_rotary)
            query, key, value = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (query, key, value))
            here = partial(attend, bias=None if bias is None else bias.unsqueeze(1), groups=groups, kernel=self.kernel)
            found = here(query, key, value) if divisions is None else attend_divided(here, query, key, value, divisions)
            attended = found.transpose(1, 2)
        if "to_gate_logits" in self._modules:
            attended = attended * (2.0 * part("to_gate_logits")(hidden).sigmoid()).unsqueeze(-1)
        out: Tensor = part("to_out")[0](attended.flatten(2))
        return out


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, groups: Groups | None, kernel: Kernel) -> Tensor:
    """Attend from queries `[B, H, T, C]` to keys and values `[B, H, S, C]`. All attention of the transformer is computed here.

    Args:
        query: the queries.
        key: the keys.
        value: the values.
        bias: the bias of the scores, `[B, 1, T or 1, S]`; None for none.
        groups: the groups of tokens that attend to each other with weights; None if all attend to each other alike.
        kernel: the program that computes attention.
    """
    if groups is None:
        return kernel(query, key, value, bias)
    return attention_in_groups(query, key, value, groups, kernel)


def use_kernel(
    model: nn.Module,
    name: AttentionName,
    device: torch.device,
    dtype: torch.dtype,
    *,
    training: bool,
    where: str = "acceleration.attention",
) -> str:
    """Let all attention of a model without adapters be computed by the program of this name, and describe this program.

    Args:
        model: the model.
        name: the name of the program.
        device: the device on which the model computes.
        dtype: the dtype of the model's matrix products.
        training: whether the model is trained.
        where: the place where the user names the program.

    Raises:
        ConfigError: the program does not work here.
    """
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    widths = {module.width for module in attentions}
    kernel = tried(name, widths, device, dtype, training=training, where=where)
    for module in attentions:
        module.kernel = kernel
    return said(name, widths, device, dtype)


def ours(module: nn.Module) -> nn.Module:
    """Return the module that replaces a module of diffusers, with the same parameters under the same names."""
    kind = _OURS.get(type(module).__name__)
    return module if kind is None else kind(module)


_OURS: dict[str, Callable[[Any], nn.Module]] = {"RMSNorm": Norm, "LTX2Attention": Attention}
