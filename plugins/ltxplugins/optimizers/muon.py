"""The optimizer "muon": Muon, from torch, for matrices, and AdamW for all other weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from ltxcore.api.optimizers import ParameterGroup
from ltxplugins.optimizers.fields import betas, bytes_of, eps

if TYPE_CHECKING:
    from torch.optim import Optimizer


@attrs.frozen
class Muon:
    """Muon, from torch: it makes the update of a matrix orthogonal, so that the update is equally large in every direction.

    AdamW updates the weights that are not matrices, such as biases and tables.
    """

    updates_alone = True

    momentum: float = attrs.field(
        default=0.95,
        validator=[attrs.validators.ge(0), attrs.validators.lt(1)],
        metadata={"help": "share of the running mean that is kept in a step"},
    )
    nesterov: bool = attrs.field(default=True, metadata={"help": "look ahead by one more step of the running mean (Nesterov)"})
    ns_steps: int = attrs.field(
        default=5,
        validator=[attrs.validators.ge(1), attrs.validators.lt(100)],
        metadata={"help": "steps of the Newton-Schulz iteration that makes an update orthogonal"},
    )
    adjust_lr: Literal["match_rms_adamw", "original"] = attrs.field(
        default="match_rms_adamw",
        metadata={
            "help": "how the learning rate depends on the shape of a matrix: in a way that suits learning rates of AdamW, or as first published"
        },
    )
    betas: tuple[float, float] = betas(0.9, 0.999)
    eps: float = eps(1e-8)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        from ltxplugins.optimizers.muon_torch import muon_and_adamw

        return muon_and_adamw(groups, self)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return bytes_of(shape, 1 if is_matrix(name, shape) else 2)


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a parameter is a matrix that multiplies vectors, and not a two-dimensional table."""
    return len(shape) == 2 and name.endswith(".weight")
