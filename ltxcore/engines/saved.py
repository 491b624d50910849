"""Checks that a saved state belongs to the run which resumes from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from ltxcore.errors import CheckpointError, listed

T = TypeVar("T")

PARAMETER = "parameter/"
"""The prefix of the keys of weights in a saved state. The keys of the optimizer's state begin with torch's names."""

AVERAGE = "weight_average/"
"""The prefix of the keys of the weights' moving average in a saved state."""

AVERAGED_STEPS = "averaged_steps"
"""The key, in a saved state, of the number of optimizer steps since the average began."""


def average_in(tensors: Mapping[str, T]) -> dict[str, T] | None:
    """Return the saved average by parameter; None if the state has none."""
    return {key.removeprefix(AVERAGE): value for key, value in tensors.items() if key.startswith(AVERAGE)} or None


def check_saved(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse saved weights that are not exactly the parameters of this run (`shapes`, by name).

    Raises:
        CheckpointError: names or shapes differ.
    """
    found = {key.removeprefix(PARAMETER): value for key, value in tensors.items() if key.startswith(PARAMETER)}
    wrong = sorted(
        name for name in {*found, *shapes} if name not in found or name not in shapes or tuple(found[name].shape) != tuple(shapes[name])
    )
    if wrong:
        raise CheckpointError(
            f"the saved parameters are not those of this run: {listed(wrong)}",
            remedy="Resume with the run file that the checkpoint was saved with.",
        )
