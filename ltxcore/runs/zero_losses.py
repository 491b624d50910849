"""Find losses that are 0 in every step: nothing is learned from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import listed
from ltxcore.logs import warn
from ltxcore.protocols import MODALITIES

ENOUGH = 20
"""The number of steps in which a loss must be 0 before the user is warned."""


@attrs.define(eq=False)
class ZeroLosses:
    """A tracker that warns once of losses that were 0 in every step so far. Its counts end with the process.

    Attributes:
        steps: the number of steps that had each of these losses, by the loss's name: a modality, or "OBJECTIVE/MODALITY". A loss that was
            above 0, or that the user was warned of, is left out.
    """

    steps: dict[str, int]

    @classmethod
    def of(cls, objectives: Iterable[str]) -> ZeroLosses:
        """Return the tracker for a run whose objectives have these names in metrics."""
        return cls(dict.fromkeys([*MODALITIES, *(f"{label}/{name}" for label in objectives for name in MODALITIES)], 0))

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Do nothing; the names of the losses are known already."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        found = []
        for name in [name for name in self.steps if f"loss/{name}" in metrics]:
            self.steps[name] += 1
            is_zero = metrics[f"loss/{name}"] == 0
            if is_zero and self.steps[name] == ENOUGH:
                found.append(f"loss/{name}")
            if not is_zero or self.steps[name] == ENOUGH:
                del self.steps[name]
        if found:
            warn(
                f"nothing has been learned from {listed(found)}, which {'was' if len(found) == 1 else 'were'} 0 in each of {ENOUGH} steps: "
                "perhaps conditions give all tokens, so that none counts. `ltx inspect` shows which tokens are given."
            )

    def sample(self, step: int, name: str, path: Path) -> None:
        """Do nothing; generations have no loss."""

    def finish(self) -> None:
        """Do nothing; there is nothing to close."""
