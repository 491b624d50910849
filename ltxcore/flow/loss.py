"""The training loss of a modality, and the loss of all modalities together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-12
"""The smallest sum of weights that an average is divided by, so that a sample without weights has loss 0."""


Error = Literal["mse", "huber", "l1"]
"""The measures of a prediction's error."""


def masked_loss(
    predicted: Tensor, target: Tensor, loss_mask: Tensor, *, error: Error = "mse", delta: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Return the error of each sample, `[B]` float32, averaged over the tokens that count and their channels.

    Args:
        predicted: the predicted velocity, `[B, T, D]`.
        target: the true velocity, `[B, T, D]`.
        loss_mask: a mask of the tokens that count, `[B, T]` bool. A sample without such tokens has loss 0.
        error: "mse", the squared difference; "l1", the absolute difference; or "huber", which is quadratic up to `delta` and grows
            linearly beyond it.
        delta: the difference above which "huber" is linear.
        weights: the weight of every token in the average, `[B, T]`; None for equal weights.

    Source: docs/explanation/arithmetic.md#loss-of-a-sample, #errors-other-than-the-square
    """
    counted = loss_mask.to(predicted.device)
    difference = predicted.float() - target.to(predicted.device).float()
    # Tokens are masked, not multiplied by 0, so that a token that does not count cannot make the loss NaN.
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
    """Add the modalities' losses, each `[B]`, and average the sum over the batch to a scalar.

    Source: docs/explanation/arithmetic.md#loss-of-a-micro-batch
    """
    import torch

    return torch.stack(list(losses.values())).sum(dim=0).mean()
