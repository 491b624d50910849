"""Find the tokens of a sample that share a noise level. The model embeds noise levels, and computes each embedding once
per level instead of once per token.

Without given tokens, a sample has one level; with given tokens, it has two; with soft masks, it has more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MOST = 256
"""The maximum number of distinct levels in a sample for which levels are shared. With more levels, each token is
computed separately.
"""


class SharedLevels(NamedTuple):
    """The tokens of a batch that share a noise level. K is the maximum number of levels in a sample; samples with fewer
    levels repeat one of them.

    Attributes:
        token: the index of one token of each level, `[B, K]`.
        row_of: the index of each token's level among the `B * K` levels of the batch, `[B, T]`; None if all tokens of
            every sample share one level.
    """

    token: Tensor
    row_of: Tensor | None


def shared_levels(timesteps: Tensor) -> SharedLevels | None:
    """Find the tokens that share a noise level, from levels `[B, T]` on the CPU; None if hardly any tokens do."""
    import torch

    size, tokens = timesteps.shape
    found = [torch.unique(sample, return_inverse=True) for sample in timesteps]
    most = max(len(values) for values, _ in found)
    if most == 1:
        return SharedLevels(torch.zeros(size, 1, dtype=torch.int64), None)
    if most > min(MOST, tokens // 2):
        return None
    rows = torch.stack([row for _, row in found])
    token = rows.argmax(dim=1, keepdim=True).repeat(1, most)  # a sample with fewer levels repeats its last level
    token.scatter_(1, rows, torch.arange(tokens).expand(size, -1))
    return SharedLevels(token, rows + most * torch.arange(size)[:, None])


def noise_levels(sigma: Tensor | float, denoise_mask: Tensor, levels: Tensor | None) -> Tensor:
    """Return the noise level of every token, `[B, T + R]`: `sigma` for a generated token, a part of it for a token that is given partly,
    and for a token that is given entirely the level at which it is given.

    Source: docs/explanation/arithmetic.md#noise-level-of-a-token, #level-of-given-tokens
    """
    following = sigma * denoise_mask
    return following if levels is None else following + levels


def carried(kinds: Callable[[], Tensor], known: SharedLevels | None, move: Callable[[Tensor], Tensor]) -> SharedLevels | None:
    """Return the tokens that share a noise level, copied by `move` to the device that the levels go to.

    Args:
        kinds: returns a number for every token, `[B, T]`, equal where noise levels always are.
        known: the tokens that share a level, if they are known. If not, they are found only on the CPU.
        move: copies a tensor.
    """
    found = known
    if found is None and (numbers := kinds()).device.type == "cpu":
        found = shared_levels(numbers)
    if found is None:
        return None
    return SharedLevels(move(found.token), None if found.row_of is None else move(found.row_of))
