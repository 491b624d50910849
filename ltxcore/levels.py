"""The tokens of a sample that share a noise level. The model embeds levels and modulates by them, so that what a token would need is computed once a level.

A modality without given tokens has one level a sample, one with given tokens has two, and soft masks have more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MOST = 256
"""The most distinct levels of a sample by which its tokens are told apart; with more, each token is taken for itself."""


class SharedLevels(NamedTuple):
    """Which tokens share a noise level, where a sample has K levels; samples with fewer repeat one.

    Attributes:
        token: a token of each level, `[B, K]`.
        row_of: the row of each token's level among the `B * K` of the whole batch, `[B, T]`; None where all tokens of a sample share one.
    """

    token: Tensor
    row_of: Tensor | None


def shared_levels(timesteps: Tensor) -> SharedLevels | None:
    """Find the tokens that share a level among noise levels `[B, T]` on the CPU; None if hardly any do."""
    import torch

    size, tokens = timesteps.shape
    found = [torch.unique(sample, return_inverse=True) for sample in timesteps]
    most = max(len(values) for values, _ in found)
    if most == 1:
        return SharedLevels(torch.zeros(size, 1, dtype=torch.int64), None)
    if most > min(MOST, tokens // 2):
        return None
    rows = torch.stack([row for _, row in found])
    token = rows.argmax(dim=1, keepdim=True).repeat(1, most)  # one of the last level, for the rows that a sample lacks
    token.scatter_(1, rows, torch.arange(tokens).expand(size, -1))
    return SharedLevels(token, rows + most * torch.arange(size)[:, None])


def carried(timesteps: Tensor, known: SharedLevels | None, move: Callable[[Tensor], Tensor]) -> SharedLevels | None:
    """Find the tokens that share a level while noise levels are on the CPU, or take those that are known; `move` takes them where the levels go."""
    found = shared_levels(timesteps) if timesteps.device.type == "cpu" else known
    if found is None:
        return None
    return SharedLevels(move(found.token), None if found.row_of is None else move(found.row_of))
