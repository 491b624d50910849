"""The masked loss."""

from __future__ import annotations

import torch

from ltxcore.flow.loss import masked_loss


def test_the_loss_is_the_mean_over_counted_tokens_and_channels() -> None:
    predicted = torch.tensor([[[1.0, 3.0], [5.0, 5.0]], [[2.0, 2.0], [2.0, 2.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    assert masked_loss(predicted, torch.zeros(2, 2, 2), mask).tolist() == [5.0, 4.0]


def test_a_sample_without_counted_tokens_has_loss_zero() -> None:
    assert masked_loss(torch.ones(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [0.0]


def test_a_token_that_does_not_count_cannot_make_the_loss_or_its_gradient_nan() -> None:
    predicted = torch.tensor([[[1.0], [float("inf")]]], requires_grad=True)
    loss = masked_loss(predicted, torch.zeros(1, 2, 1), torch.tensor([[True, False]]))
    loss.sum().backward()
    assert loss.tolist() == [1.0]
    assert predicted.grad[0, 0, 0] == 2


def test_half_precision_predictions_are_compared_in_float32() -> None:
    assert masked_loss(torch.ones(1, 1, 1).bfloat16(), torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).dtype == torch.float32
