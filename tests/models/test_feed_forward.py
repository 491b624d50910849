"""Feed-forward in chunks gives the same numbers, and its wide layer takes the memory of one chunk."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ltxcore.models.feed_forward import in_chunks
from ltxcore.planner.live import LiveBytes

TOKENS, WIDTH = 1024, 16


def made() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))
    module[0].weight.requires_grad_(False)
    return module


def step(chunks: int) -> tuple[list[Tensor], int]:
    """The result and the gradients, and the most bytes that were alive."""
    module, x = made(), torch.linspace(-2, 2, TOKENS * WIDTH).view(1, TOKENS, WIDTH).requires_grad_()
    with LiveBytes([x, *module.parameters()]) as live:
        found = in_chunks(module, x, chunks)
        found.square().sum().backward()
    return [found.detach(), *(each.grad for each in (x, *module.parameters()) if each.grad is not None)], live.peak


@pytest.mark.parametrize("chunks", [2, 7])
def test_results_and_gradients_are_the_same_within_rounding(chunks: int) -> None:
    """Within 1e-6 of the largest value, in float32."""
    (expected, whole), (found, peak) = step(1), step(chunks)
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()
    assert peak < 0.75 * whole


def test_without_gradients_only_one_chunk_of_the_wide_layer_is_alive() -> None:
    module, x = made(), torch.ones(1, TOKENS, WIDTH)
    with torch.no_grad(), LiveBytes([x, *module.parameters()]) as live:
        found = in_chunks(module, x, 8)
    assert torch.equal(found, module(x))
    assert live.peak < 4 * TOKENS * WIDTH * 4


def test_the_backward_pass_uses_the_weights_that_the_forward_pass_used() -> None:
    """Block swap takes the copies on the device away as soon as a block is left."""
    module, x = made(), torch.linspace(-2, 2, 8 * WIDTH).view(1, 8, WIDTH).requires_grad_()
    layer = module[0]
    elsewhere = layer.weight
    layer.weight = nn.Parameter(elsewhere.detach().clone(), requires_grad=False)
    found = in_chunks(module, x, 2)
    layer.weight = nn.Parameter(torch.full_like(elsewhere, torch.nan), requires_grad=False)
    left = layer.weight
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert layer.weight is left
