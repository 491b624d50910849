"""Which part of the work is this process's, when several share it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import attrs

from ltxcore.errors import ConfigError

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
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
            raise ConfigError(
                f"RANK={rank} and WORLD_SIZE={size} name no share of the work",
                where="environment",
                remedy="Let a launcher set them, such as torchrun, or unset both.",
            )
        return cls(int(rank), int(size))

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Every `world_size`-th item, from number `rank` on."""
        return items[self.rank :: self.world_size]
