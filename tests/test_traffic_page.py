"""What a block moves and keeps is counted, and does not grow unseen."""

from __future__ import annotations

import pytest

import traffic
from helpers.sampling import sampled

MOST = {"forward_bytes": 20e9, "backward_bytes": 30e9, "kept_bytes": 5e9, "forward_kernels": 160, "backward_kernels": 180}
"""Of a LoRA without given tokens: more than this needs a reason."""


def test_the_page_of_traffic_has_its_introduction_and_the_ways_in_order() -> None:
    text = traffic.PAGE.read_text()
    assert text.startswith(traffic.INTRODUCTION)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]] == [way.said for way in traffic.WAYS]


def test_a_block_of_a_lora_moves_and_keeps_no_more_than_it_may() -> None:
    found = traffic.of_a_block(traffic.WAYS[0])
    for name, most in MOST.items():
        assert 0 < getattr(found, name) <= most, name
    said = traffic.line(traffic.WAYS[0], found, (0, 0)).rpartition(" | ")[0]
    assert said in traffic.PAGE.read_text(), "run: python docs/made/traffic.py"


@pytest.mark.slow
def test_a_compiled_block_of_a_lora_moves_no_more_than_it_may() -> None:
    forward, backward = traffic.compiled(traffic.WAYS[0])
    assert 0 < forward <= 13e9
    assert 0 < backward <= 18e9


@pytest.mark.slow
@pytest.mark.parametrize("number", sampled(range(1, len(traffic.WAYS)), 1))
def test_what_the_page_says_of_a_way_to_train_is_counted(number: int) -> None:
    way = traffic.WAYS[number]
    assert traffic.line(way, traffic.of_a_block(way), traffic.compiled(way)) in traffic.PAGE.read_text(), "run: python docs/made/traffic.py"


def test_views_and_matrix_products_count_nothing_and_a_row_that_all_read_counts_once() -> None:
    import torch

    x, row = torch.empty(8, 16), torch.empty(1, 16)
    with traffic.Traffic() as mode:
        x.t().reshape(16, 8) @ x
        assert (mode.bytes, mode.kernels) == (0, 0)
        x + row.expand(8, 16)
    assert (mode.bytes, mode.kernels) == (4 * (2 * 8 * 16 + 16), 1)
