"""Which part of the work is this process's, when several share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import attrs

from ltxcore.engines.process import Place

T = TypeVar("T")


@attrs.frozen
class Share:
    """This process is number `rank` of `world_size`, counted from 0."""

    rank: int = 0
    world_size: int = 1

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world_size}"

    @classmethod
    def of_environment(cls) -> Share:
        """As a launcher such as torchrun says in RANK and WORLD_SIZE; alone where it says nothing.

        Raises:
            ConfigError: they are no numbers, or the rank is not below the size.
        """
        place = Place.of_environment()
        return cls(place.rank, place.world_size)

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Every `world_size`-th item, from number `rank` on."""
        return items[self.rank :: self.world_size]
