"""Selective checkpointing keeps what the budget has room for, computes nothing of it again, and changes no bit of a gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.golden_models import BOTH, random_input
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.kept_outputs import ATTENTION, PRODUCTS, KeptOutputs
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.transformer import computed_again
from ltxcore.planner.live import LiveBytes
from ltxcore.protocols import ModelInput

BLOCKS = 4
GIB = 2**30


class Counted(TorchDispatchMode):
    """How often each operation is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func in ATTENTION or func in PRODUCTS:
            self.calls["attention" if func in ATTENTION else "product"] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def backbone() -> LTXBackbone:
    made = load_backbone("tiny", BOTH, dtype=torch.float32, gradient_checkpointing=True)
    targets = ["attn1.to_q", "attn1.to_v", "ff.net.2", "audio_attn1.to_q"]
    add_lora(made, rank=4, alpha=4.0, dropout=0.0, target_modules=targets, modalities=frozenset(BOTH), seed=1)
    return made


def both() -> tuple[ModelInput, ModelInput]:
    sigma = torch.tensor([0.3, 0.8])
    return random_input("video", 12, seed=1, sigma=sigma), random_input("audio", 7, seed=2, sigma=sigma)


def step(backbone: LTXBackbone, budget: int | None) -> tuple[dict[str, Tensor], Counter[str], int]:
    """The gradients of a step, what was computed in it, and the bytes that were kept for its backward pass."""
    backbone.transformer.kept_outputs = None if budget is None else KeptOutputs(budget)
    known = [*backbone.parameters(), *backbone.buffers()]
    with LiveBytes(known) as live, Counted() as counted:
        loss = sum(velocity.square().sum() for velocity in backbone(*both()).values())
        kept = live.live
        loss.backward()  # type: ignore[union-attr]
    gradients = {name: each.grad for name, each in lora_parameters(backbone).items() if each.grad is not None}
    backbone.zero_grad()
    return gradients, counted.calls, kept


def test_gradients_are_bit_for_bit_the_same_and_what_is_kept_is_not_computed_again(backbone: LTXBackbone) -> None:
    without, all_again, least = step(backbone, None)
    budgets = [0, 60_000, 400_000, GIB]
    for budget in budgets:
        found, calls, kept = step(backbone, budget)
        assert found.keys() == without.keys()
        assert all(torch.equal(found[name], without[name]) for name in found)
        assert least <= kept <= least + budget
        if budget == 0:
            assert calls == all_again
    assert all_again["attention"] == 2 * BLOCKS * 6
    assert calls["attention"] == BLOCKS * 6 + 1  # the first block keeps only what comes first


def test_attention_to_many_tokens_comes_first_in_all_blocks(backbone: LTXBackbone) -> None:
    """Of 12 tokens of video to themselves and to 16 words, and of 7 tokens of audio to themselves, to the words and to the video."""
    _, all_again, least = step(backbone, None)
    attention = (2 * 12 + 3 * 7) * 2 * (128 + 4) * 4 * BLOCKS  # outputs, and a number for each query and head, in float32
    _, calls, kept = step(backbone, attention)
    assert kept == least + attention
    assert calls["attention"] == BLOCKS * (6 + 1)
    assert calls["product"] == all_again["product"]
    _, calls, _ = step(backbone, attention - 1)
    assert calls["attention"] == BLOCKS * (6 + 1) + 1
    _, calls, _ = step(backbone, attention + 40_000)
    assert calls["product"] < all_again["product"]


def test_the_wide_product_of_a_lora_is_computed_again() -> None:
    outputs = KeptOutputs(GIB)
    outputs.begin(2)
    outputs.of_block()
    assert outputs.takes(next(iter(ATTENTION)), (torch.empty(1, 1, 5, 8), torch.empty(1, 1, 5, 8)), 10)
    outputs.of_block()
    tokens, narrow = torch.empty(5, 64), torch.empty(5, 4)
    product = torch.ops.aten.mm.default
    assert outputs.takes(product, (tokens, torch.empty(64, 64)), 10)
    assert outputs.takes(product, (tokens, torch.empty(64, 4)), 10)
    assert not outputs.takes(product, (narrow, torch.empty(4, 64)), 10)


class ChangesInPlace(torch.nn.Module):
    """A layer whose output is changed in place, as an adapter may do."""

    def forward(self, x: Tensor) -> Tensor:
        attended = torch.nn.functional.scaled_dot_product_attention(x, x, x)
        product = torch.nn.functional.linear(x[0], x[0, 0].detach())
        product += 1.0
        return attended.sum() * product.square().sum()


def test_an_output_that_was_changed_in_place_is_computed_again() -> None:
    gradients = []
    for kept in (None, KeptOutputs(GIB)):
        x = torch.linspace(-1, 1, 48).view(1, 1, 6, 8).requires_grad_()
        if kept is not None:
            kept.begin(2)
            kept.of_block()
            kept._in_block = 1  # as after a first block, so that products are kept in this one
        computed_again(ChangesInPlace(), x, kept=kept).backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)
