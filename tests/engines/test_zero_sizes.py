"""The sizes of DeepSpeed's buffers that follow from the shapes of a model."""

from __future__ import annotations

from ltxcore.engines.zero_sizes import WeightShapes

BLOCKS, WIDTH, RANK = 48, 4096, 32
BASE = [
    ("transformer_blocks.0.attn1.to_q.weight", (WIDTH, WIDTH), 8 * BLOCKS, False),
    ("transformer_blocks.0.ff.net.2.weight", (WIDTH, 4 * WIDTH), 2 * BLOCKS, False),
    ("transformer_blocks.0.scale_shift_table", (9, WIDTH), BLOCKS, False),
    ("proj_in.weight", (WIDTH, 128), 1, False),
]
BLOCK = 8 * WIDTH * WIDTH + 8 * WIDTH * WIDTH + 9 * WIDTH


def adapters(rank: int) -> list[tuple[str, tuple[int, ...], int, bool]]:
    return [
        ("transformer_blocks.0.attn1.to_q.lora_A.default.weight", (rank, WIDTH), 8 * BLOCKS, True),
        ("transformer_blocks.0.attn1.to_q.lora_B.default.weight", (WIDTH, rank), 8 * BLOCKS, True),
    ]


def test_half_a_block_is_gathered_ahead_and_a_block_is_kept_until_it_is_used_again() -> None:
    shapes = WeightShapes.of(BASE, BLOCKS)
    assert shapes == WeightShapes(width=WIDTH, block=BLOCK)
    assert shapes.sizes() == {
        "stage3_param_persistence_threshold": 10 * WIDTH,
        "stage3_prefetch_bucket_size": BLOCK // 2,
        "stage3_max_reuse_distance": 2 * BLOCK,
        "stage3_max_live_parameters": 2 * BLOCK,
    }


def test_small_adapters_stay_whole_and_large_ones_are_divided() -> None:
    small, large = (WeightShapes.of([*BASE, *adapters(rank)], BLOCKS) for rank in (RANK, 256))
    assert small.adapter == RANK * WIDTH == 131_072
    assert small.sizes()["stage3_param_persistence_threshold"] == 131_072
    assert large.adapters > large.block
    assert large.sizes()["stage3_param_persistence_threshold"] == 10 * WIDTH
