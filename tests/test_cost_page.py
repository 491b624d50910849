"""What a block and a step cost is counted, and does not grow unseen."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import cost
import counted
from compiled import compiled
from helpers.sampling import sampled
from ltxcore.planner.trace import trace
from ltxcore.protocols import ModelInput

MOST = {
    "forward_bytes": 20e9,
    "backward_bytes": 30e9,
    "kept_bytes": 5e9,
    "forward_kernels": 160,
    "backward_kernels": 180,
    "forward_flops": 18.6e12,
    "backward_flops": 29.5e12,
}
"""Of a block, for a LoRA without given tokens: more than this needs a reason."""


def test_the_page_of_costs_has_its_texts_and_the_ways_in_order() -> None:
    text = cost.PAGE.read_text()
    assert text.startswith(cost.INTRODUCTION)
    assert all(each in text for each in (cost.BLOCK, cost.REFERENCE, cost.STEP))
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    ways = [way.said for way in counted.WAYS]
    assert rows == [cost.BLOCK_HEAD[0], "---", *ways, cost.STEP_HEAD[0], "---", *ways]


def test_a_block_of_a_lora_moves_and_keeps_no_more_than_it_may() -> None:
    way = counted.WAYS[0]
    found = counted.of_a_block(way)
    for name, most in MOST.items():
        assert 0 < getattr(found, name) <= most, name
    assert cost.block_line(way, found, (0, 0)).rpartition(" | ")[0] in cost.PAGE.read_text(), "run: python docs/made/cost.py"


def test_matrix_products_of_a_block_are_those_of_its_shapes() -> None:
    """Audio alone, computed by hand: two attentions of width 2,048 with a gate for each of 32 heads, LoRAs of rank 32, and the feed-forward."""
    tokens, words, width, rank = counted.ALONE, counted.WORDS, 2048, 32

    def linear(rows: int, into: int, out: int) -> int:
        return 2 * rows * into * out

    def with_lora(rows: int) -> int:
        return linear(rows, width, width) + linear(rows, width, rank) + linear(rows, rank, width)

    def attention(keys: int) -> int:
        return 2 * with_lora(tokens) + 2 * with_lora(keys) + linear(tokens, width, 32) + 2 * (2 * tokens * keys * width)

    expected = attention(tokens) + attention(words) + 2 * linear(tokens, width, 4 * width)
    assert counted.of_a_block(next(way for way in counted.WAYS if way.video is None)).forward_flops == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", sampled(range(len(counted.WAYS)), 1))
def test_the_planner_counts_of_a_block_what_the_page_says(number: int) -> None:
    """The two count by different means: the planner by a mode of its own, the page by torch's counter and kernels that are replaced."""
    way = counted.WAYS[number]
    backbone = counted.hollow(way, 3)
    inputs = {name: given for name, given in zip(("video", "audio"), counted.streams(way, "cpu"), strict=True) if given is not None}

    def loss(given: Mapping[str, ModelInput]) -> Tensor:
        return torch.stack([each.mean() for each in backbone(given.get("video"), given.get("audio")).values()]).sum()

    block = trace(backbone, inputs, loss, dtype=lambda name: torch.bfloat16, times=[1, 1, 1]).blocks[1]
    found = counted.of_a_block(way)
    for work, flops, size, kernels in (
        (block.forward, found.forward_flops, found.forward_bytes, found.forward_kernels),
        (block.backward, found.backward_flops, found.backward_bytes, found.backward_kernels),
    ):
        assert sum(work.products.values()) + work.attention == flops
        assert work.bytes == pytest.approx(size, rel=1e-3)
        assert work.kernels == kernels
    assert block.kept == pytest.approx(found.kept_bytes, rel=1e-3)


@pytest.mark.slow
def test_a_compiled_block_of_a_lora_moves_no_more_than_it_may() -> None:
    forward, backward = compiled(counted.WAYS[0])
    assert 0 < forward <= 13e9
    assert 0 < backward <= 18e9


@pytest.mark.slow
@pytest.mark.parametrize("number", sampled(range(1, len(counted.WAYS)), 1))
def test_what_the_page_says_of_a_way_to_train_is_counted(number: int) -> None:
    way, text = counted.WAYS[number], cost.PAGE.read_text()
    assert cost.block_line(way, counted.of_a_block(way), compiled(way)) in text, "run: python docs/made/cost.py"
    assert cost.step_line(way, counted.of_a_step(way)) in text, "run: python docs/made/cost.py"


def test_views_and_matrix_products_count_nothing_and_a_row_that_all_read_counts_once() -> None:
    x, row = torch.empty(8, 16), torch.empty(1, 16)
    with counted.Traffic() as mode:
        x.t().reshape(16, 8) @ x
        assert (mode.bytes, mode.kernels) == (0, 0)
        x + row.expand(8, 16)
    assert (mode.bytes, mode.kernels) == (4 * (2 * 8 * 16 + 16), 1)
