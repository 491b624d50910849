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


def test_other_errors_count_by_their_size_or_by_both() -> None:
    predicted, target, mask = torch.tensor([[[0.5, -3.0]]]), torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool)
    assert masked_loss(predicted, target, mask, error="l1").tolist() == [1.75]
    assert masked_loss(predicted, target, mask, error="huber").tolist() == [(0.25 + 5.0) / 2]
    assert masked_loss(predicted, target, mask, error="huber", delta=0.25).tolist() == [(0.1875 + 1.4375) / 2]


def test_huber_has_no_step_where_it_becomes_linear() -> None:
    predicted = torch.tensor([[[0.4999], [0.5], [0.5001]]]).transpose(0, 1).requires_grad_()
    loss = masked_loss(predicted, torch.zeros(3, 1, 1), torch.ones(3, 1, dtype=torch.bool), error="huber", delta=0.5)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([0.2499, 0.25, 0.2501]), rtol=0, atol=1e-6)
    torch.testing.assert_close(predicted.grad.flatten(), torch.tensor([0.9998, 1.0, 1.0]), rtol=0, atol=1e-6)


def test_weights_are_those_of_an_average_over_the_tokens_that_count() -> None:
    predicted, target = torch.tensor([[[1.0], [2.0], [7.0]]] * 2), torch.zeros(2, 3, 1)
    mask = torch.tensor([[True, True, False]] * 2)
    weights = torch.tensor([[3.0, 1.0, 9.0], [0.0, 0.0, 9.0]])
    assert masked_loss(predicted, target, mask, weights=weights).tolist() == [7 / 4, 0.0]
    equal = masked_loss(predicted, target, mask, weights=torch.full((2, 3), 5.0))
    torch.testing.assert_close(equal, masked_loss(predicted, target, mask))
