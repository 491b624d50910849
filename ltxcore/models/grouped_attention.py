"""Attention in which groups of tokens attend to each other with weights, without a tensor of one number for each pair of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ltxcore.models.attention_kernels import SDPA, Kernel

COLUMNS = 8
"""How many columns are added to queries and keys. PyTorch's fast kernels take widths that are multiples of 8."""

PARTS = 3
"""How many numbers in bfloat16 hold a float32 exactly. Every dtype of queries and keys holds a number in bfloat16."""


class Groups(NamedTuple):
    """Groups of tokens: first the target, then what each condition appended.

    Attributes:
        sizes: the number of tokens of each group.
        strengths: the weight with which the target and each appended group attend to each other, `[G]` in (0, 1].
    """

    sizes: tuple[int, ...]
    strengths: Tensor


def attention_in_groups(query: Tensor, key: Tensor, value: Tensor, groups: Groups, kernel: Kernel = SDPA) -> Tensor:
    """Attend from the tokens of all groups, `[B, heads, T + R, C]`. The target attends to everything, and an appended group to the target
    and to itself.

    Source: docs/explanation/arithmetic.md#strength-of-appended-tokens
    """
    queries, keys, values = (each.split(groups.sizes, dim=2) for each in (query, key, value))
    target, *appended = groups.sizes
    weights = groups.strengths.float().clamp_min(torch.finfo(torch.float32).tiny).log().unbind()  # 0 would have no finite logarithm
    found = [_weighted(queries[0], key, value, _by_token([None, *weights], groups.sizes, query), kernel)]
    for number, (size, weight) in enumerate(zip(appended, weights, strict=True), 1):
        known_key, known_value = (torch.cat([each[0], each[number]], dim=2) for each in (keys, values))
        found.append(_weighted(queries[number], known_key, known_value, _by_token([weight, None], (target, size), query), kernel))
    return torch.cat(found, dim=2)


def _by_token(weights: Sequence[Tensor | None], sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return the logarithm of each key's weight, `[S]` float32; None stands for a weight of 1."""
    one = torch.zeros((), device=like.device)
    return torch.cat([(one if weight is None else weight).expand(size) for weight, size in zip(weights, sizes, strict=True)])


def _weighted(query: Tensor, key: Tensor, value: Tensor, log_weights: Tensor, kernel: Kernel) -> Tensor:
    """Attend with a weight for each key, whose logarithm `[S]` is added to the scores by further columns of queries and keys: ones in the
    queries, and the logarithms, as a sum of numbers that every dtype holds, in the keys.
    """
    width = query.shape[-1]
    scale = width**-0.5
    rest, parts = log_weights / scale, []
    for _ in range(PARTS):
        parts.append(rest.bfloat16().float())
        rest = rest - parts[-1]
    columns = F.pad(torch.stack(parts, dim=-1), (0, COLUMNS - PARTS)).to(key.dtype)
    ones = F.pad(query.new_ones(PARTS), (0, COLUMNS - PARTS))
    longer_query = torch.cat([query, ones.expand(*query.shape[:3], -1)], dim=-1)
    longer_key = torch.cat([key, columns.expand(*key.shape[:3], -1)], dim=-1)
    # Flash attention takes only values as wide as queries and keys.
    return kernel(longer_query, longer_key, F.pad(value, (0, COLUMNS)), scale=scale)[..., :width]
