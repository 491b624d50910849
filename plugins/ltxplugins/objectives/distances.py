"""The distance of predictions from other predictions, for objectives whose target is not in the samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ltxcore.api import ModelInput, masked_loss

if TYPE_CHECKING:
    from torch import Tensor


def distances(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], inputs: Mapping[str, ModelInput]) -> dict[str, Tensor]:
    """Return the mean squared distance of every sample, `[B]`, for each generated modality, over the tokens that count in the loss.

    Args:
        found: the predictions, `[B, T + R, D]` by modality.
        wanted: the predictions that they are compared with.
        inputs: the inputs that were predicted from, by modality.
    """
    losses = {}
    for name, given in inputs.items():
        if given.loss_mask is not None:
            count = given.loss_mask.shape[1]
            losses[name] = masked_loss(found[name][:, :count], wanted[name][:, :count], given.loss_mask)
    return losses
