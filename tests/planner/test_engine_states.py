"""Bytes of weights, gradients and the optimizer where a GPU would have some of them in CPU memory: by arithmetic, since no GPU is here."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch

from ltxcore.models.offload import AT_ONCE
from ltxcore.planner.engine_states import DEFAULTS, MASTER, pinned, single_states, zero_states
from ltxcore.planner.parameters import Parameters, Weight
from ltxplugins.optimizers.adamw import AdamW

BLOCKS, WIDTH = 6, 64
STATE = AdamW().state_bytes
MATRIX = WIDTH * WIDTH * 2
"""Bytes in bf16."""


def lora() -> Parameters:
    """Of a model whose blocks have one matrix and one bias each; the first block stands for itself, the second for all others."""
    frozen = [
        Weight(f"transformer_blocks.{block}.attn1.to_q.{own}", shape, times, False)
        for block, times in ((0, 1), (1, BLOCKS - 1))
        for own, shape in (("weight", (WIDTH, WIDTH)), ("bias", (WIDTH,)))
    ]
    adapter = Weight("transformer_blocks.0.attn1.to_q.lora_A.default.weight", (4, WIDTH), 2 * BLOCKS, True)
    return Parameters((*frozen, adapter), connectors=0, whole=BLOCKS * (WIDTH * WIDTH + WIDTH))


@pytest.mark.parametrize("offloaded", [0, 1, 2, 3, 4, BLOCKS, 2 * BLOCKS])
def test_of_the_blocks_in_host_memory_as_many_are_on_the_device_as_offloading_lets_be_there(offloaded: int) -> None:
    given: dict[str, Any] = {"dtype": torch.bfloat16, "quantizer": None, "state_bytes": STATE, "num_layers": BLOCKS}
    whole, found = single_states(lora(), **given), single_states(lora(), **given, offloaded=offloaded)
    away = min(offloaded, BLOCKS)
    assert found.host == away * MATRIX
    assert whole.weights - found.weights == (away - min(away, AT_ONCE)) * MATRIX
    assert (found.gradients, found.optimizer) == (whole.gradients, whole.optimizer)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_frozen_loras_are_float32_on_every_device_whatever_divides_the_model(stage: int) -> None:
    under = Weight("transformer_blocks.0.attn1.to_v.lora_A", (4, WIDTH), BLOCKS, False, is_kept=True, is_of_frozen_lora=True)
    bare, whole = lora(), attrs.evolve(lora(), weights=(*lora().weights, under))
    for processes in (1, 4):
        before, after = (zero_states(each, away(stage), processes, STATE) for each in (bare, whole))
        assert after == attrs.evolve(before, weights=before.weights + MASTER * 4 * WIDTH * BLOCKS)


def test_pinned_memory_is_taken_in_powers_of_two() -> None:
    assert [pinned(size) for size in (0, 1, 2, 3, 4096, 4097, 41 * 2**30)] == [0, 1, 2, 4, 4096, 8192, 64 * 2**30]


def full(numbers: int) -> Parameters:
    return Parameters((Weight("transformer_blocks.0.attn1.to_q.weight", (numbers, 1), 1, True),), connectors=0, whole=numbers)


def away(stage: int, *, is_bf16: bool = True, **parts: Any) -> dict[str, Any]:
    return {"bf16": {"enabled": is_bf16}, "zero_optimization": {"stage": stage, **DEFAULTS, **parts}}


MOMENTS = 8
"""Bytes of AdamW's state of a number."""

NUMBERS, GROUP = 3_000_000, 1_000_000
CPU = {"device": "cpu"}


@pytest.mark.parametrize("processes", [1, 2])
def test_gradients_in_host_memory_are_pinned_at_stage_3(processes: int) -> None:
    mine = NUMBERS // processes
    states = mine * (MASTER + MOMENTS)
    groups = (mine // GROUP) * pinned(GROUP * MASTER) + pinned(mine % GROUP * MASTER)
    config = away(3, offload_optimizer=CPU, sub_group_size=GROUP)
    assert zero_states(full(NUMBERS), config, processes, STATE).host == states + pinned(mine * 2) + groups
    unpinned = away(3, offload_optimizer={**CPU, "pin_memory": False}, sub_group_size=GROUP)
    assert zero_states(full(NUMBERS), unpinned, processes, STATE).host == states + mine * 2 + mine * MASTER
    everything = away(3, offload_optimizer=CPU, offload_param=CPU, sub_group_size=GROUP)
    assert zero_states(full(NUMBERS), everything, processes, STATE).host == states + 2 * pinned(mine * 2) + groups


def test_weights_masters_and_gradients_in_host_memory_are_pinned_at_stage_2() -> None:
    config = away(2, offload_optimizer=CPU)
    assert zero_states(full(NUMBERS), config, 1, STATE).host == NUMBERS * MOMENTS + pinned(NUMBERS * 2) + 2 * pinned(NUMBERS * MASTER)
    unpinned = away(2, offload_optimizer={**CPU, "pin_memory": False})
    assert zero_states(full(NUMBERS), unpinned, 1, STATE).host == NUMBERS * (MOMENTS + 2 + 2 * MASTER)


def test_a_process_without_a_part_of_what_is_trained_takes_no_host_memory() -> None:
    config = away(3, offload_optimizer=CPU, offload_param=CPU)
    assert zero_states(Parameters((), connectors=0, whole=0), config, 4, STATE).host == 0


@pytest.mark.parametrize("is_bf16", [True, False], ids=["bf16", "float32"])
def test_masters_lie_beside_the_weights_at_stage_3_whatever_the_weights_are(is_bf16: bool) -> None:
    assert zero_states(full(NUMBERS), away(3, is_bf16=is_bf16), 1, STATE).optimizer == NUMBERS * (MASTER + MOMENTS)


@pytest.mark.parametrize(("prefetch", "twice"), [(1000, 1000), (0, 0), (10 * NUMBERS, NUMBERS)])
def test_weights_that_are_gathered_together_are_there_twice(prefetch: int, twice: int) -> None:
    config = away(3, stage3_prefetch_bucket_size=prefetch, stage3_param_persistence_threshold=0, reduce_bucket_size=0)
    assert zero_states(full(NUMBERS), config, 1, STATE).communication == (NUMBERS + twice) * 2
