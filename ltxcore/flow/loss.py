"""The training loss of one modality, and that of all modalities together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-12
"""The smallest sum of weights that an average is divided by, so that a sample in which no token has a weight has loss 0."""


Error = Literal["mse", "huber", "l1"]
"""The measures of how far a prediction is off."""


def masked_loss(
    predicted: Tensor, target: Tensor, loss_mask: Tensor, *, error: Error = "mse", delta: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Return the error of each sample, `[B]` float32, averaged over the tokens that count and their channels.

    Args:
        predicted: the predicted velocity, `[B, T, D]`.
        target: the true velocity, `[B, T, D]`.
        loss_mask: tokens that count, `[B, T]` bool. A sample without any has loss 0.
        error: "mse", the squared difference; "l1", its absolute value; or "huber", which is squared up to `delta` and grows linearly
            beyond it.
        delta: where "huber" becomes linear.
        weights: the weight of every token in the average, `[B, T]`; None for equal weights.

    Source: docs/explanation/arithmetic.md#loss-of-a-sample, #errors-other-than-the-square
    """
    counted = loss_mask.to(predicted.device)
    difference = predicted.float() - target.to(predicted.device).float()
    # Masked, not multiplied: a token that does not count must not make the loss NaN.
    each = _measured(difference, error, delta).mean(dim=-1).masked_fill(~counted, 0.0)
    if weights is None:
        return each.sum(dim=1) / counted.sum(dim=1).clamp_min(1)
    shares = weights.to(predicted.device).float().masked_fill(~counted, 0.0)
    return (each * shares).sum(dim=1) / shares.sum(dim=1).clamp_min(SMALLEST)


def _measured(difference: Tensor, error: Error, delta: float) -> Tensor:
    if error == "mse":
        return difference.square()
    if error == "l1":
        return difference.abs()
    size = difference.abs()
    return difference.square().where(size <= delta, delta * (2 * size - delta))


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Add the losses of the modalities, `[B]` each, and average them over the batch to a scalar.

    Source: docs/explanation/arithmetic.md#loss-of-a-micro-batch
    """
    import torch

    return torch.stack(list(losses.values())).sum(dim=0).mean()
