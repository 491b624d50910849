"""The training loss of one modality, and that of all modalities together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def masked_loss(predicted: Tensor, target: Tensor, loss_mask: Tensor) -> Tensor:
    """Return the squared error of each sample, `[B]` float32, averaged over the tokens that count and their channels.

    Args:
        predicted: the predicted velocity, `[B, T, D]`.
        target: the true velocity, `[B, T, D]`.
        loss_mask: tokens that count, `[B, T]` bool. A sample without any has loss 0.

    Source: docs/explanation/arithmetic.md#loss-of-a-sample
    """
    counted = loss_mask.to(predicted.device)
    error = (predicted.float() - target.to(predicted.device).float()).square().mean(dim=-1)
    # Masked, not multiplied: a token that does not count must not make the loss NaN.
    total = error.masked_fill(~counted, 0.0).sum(dim=1)
    return total / counted.sum(dim=1).clamp_min(1)


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Add the losses of the modalities, `[B]` each, and average them over the batch to a scalar.

    Source: docs/explanation/arithmetic.md#loss-of-a-micro-batch
    """
    import torch

    return torch.stack(list(losses.values())).sum(dim=0).mean()
