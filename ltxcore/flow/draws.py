"""Random numbers that depend only on their purpose, never on what was drawn before.

Thus a resumed run, or a run on a different number of processes, draws the same numbers, and no generator state has to be saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from torch import Generator, Tensor


def generator(seed: int, *key: str | int) -> Generator:
    """Return a generator on the CPU whose numbers depend only on `seed` and `key`.

    Source: docs/explanation/arithmetic.md#random-numbers
    """
    import torch

    # repr distinguishes ("a", "bc") from ("ab", "c"), and 1 from "1".
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@attrs.frozen
class CountedDraws:
    """The random draws of one micro-batch.

    Attributes:
        seed: the run's seed.
        epoch: the pass over the data.
        names: the names of the samples, in order.
        batch_id: the micro-batch's id, which does not depend on the process that gets these samples.
        passes: for each sample, the pass over its set; empty if that is the epoch.
    """

    seed: int
    epoch: int
    names: tuple[str, ...]
    batch_id: str
    passes: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return len(self.names)

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw standard normal numbers, `[B, *shape]` float32, independently for each sample."""
        import torch

        return torch.stack([torch.randn(tuple(shape), generator=each) for each in self._of(key)])

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw uniform numbers in [0, 1), `[B, *shape]` float32, independently for each sample."""
        import torch

        return torch.stack([torch.rand(tuple(shape), generator=each) for each in self._of(key)])

    def shared_uniform(self, key: str) -> float:
        """Draw a single uniform number in [0, 1) for the whole micro-batch."""
        import torch

        return float(torch.rand((), generator=generator(self.seed, "batch", key, self.epoch, self.batch_id)))

    def _of(self, key: str) -> list[Generator]:
        """Return a generator for each sample."""
        passes = self.passes or (self.epoch,) * self.size
        return [generator(self.seed, "sample", key, number, name) for number, name in zip(passes, self.names, strict=True)]
