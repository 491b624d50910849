"""What two processes send each other in a step, in bytes and in calls: weights, gradients, and everything else.

Takes about 30 seconds on two free cores.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from helpers.engine_modes import FULL, LORA, make_set, run_tables, small_model, write
from helpers.launches import UNCHECKED, run_launches
from helpers.untrained import write_untrained
from ltxcore.models.load_base import load_backbone
from ltxcore.models.tiny_model import TINY

pytestmark = pytest.mark.slow

STEPS = 4
ADAPTERS: dict[str, Any] = {**LORA, "lora": {**LORA["lora"], "rank": 16, "dropout": 0.0}}
MODES: dict[str, dict[str, Any]] = {"full": FULL, "lora": ADAPTERS}
GATHER, REDUCE, SCATTER, OBJECTS = (
    "all_gather_into_tensor",
    "all_reduce",
    "reduce_scatter_tensor",
    ("all_gather_object", "broadcast_object_list"),
)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The collectives of the last step of each mode, and the sizes of the model."""
    folder = tmp_path_factory.mktemp("collectives")
    make_set(folder / "data")
    write_untrained(small_model(folder / "data"), TINY, torch.float32)
    jobs = []
    for name, mode in MODES.items():
        tables = run_tables("both, full, accumulation", folder / "data", folder / name, **mode)
        tables["optimization"] = {"steps": STEPS, "batch_size": 2, "learning_rate": 2e-3, "enable_gradient_checkpointing": True}
        tables["engine"] = {"name": "zero", "stage": 3}
        jobs.append({"run": write(folder, name, tables), "counted": True})
    (found,) = run_launches(folder, [(2, jobs)], **UNCHECKED)
    whole = load_backbone(str(small_model(folder / "data")), frozenset({"video", "audio"}), dtype=torch.float32)
    sizes = {"weights": sum(each.numel() for each in whole.parameters()) * 4, "blocks": len(whole.transformer.transformer_blocks)}
    print(json.dumps({name: found[0][index]["collectives"] for index, name in enumerate(MODES)}), sizes)  # noqa: T201
    for own, other in zip(*found, strict=True):
        assert own["collectives"][-1] == other["collectives"][-1]
    return {**{name: found[0][index]["collectives"][-1] for index, name in enumerate(MODES)}, **sizes}


def test_full_fine_tuning_sends_each_weight_little_more_than_three_times(steps: dict[str, Any]) -> None:
    """To the forward pass, to the backward pass, and as its gradient."""
    sent = steps["full"][GATHER][1] + steps["full"][SCATTER][1]
    assert 2.5 * steps["weights"] < sent <= 3.1 * steps["weights"]


def test_a_lora_sends_the_base_twice_and_its_own_weights_and_gradients(steps: dict[str, Any]) -> None:
    adapters = steps["lora"][SCATTER][1]
    assert 0 < adapters < 0.3 * steps["weights"]
    assert steps["lora"][GATHER][1] <= 2 * steps["weights"] + 2 * adapters


@pytest.mark.parametrize("mode", MODES)
def test_small_weights_are_not_gathered_one_by_one(steps: dict[str, Any], mode: str) -> None:
    """There are 334 weights in the base, and as many again in adapters."""
    assert steps[mode][GATHER][0] < 200
    assert steps[mode][SCATTER][0] == 1


@pytest.mark.parametrize("mode", MODES)
def test_messages_of_a_step_are_small_tensors_and_no_objects(steps: dict[str, Any], mode: str) -> None:
    """One before the forward pass that all run the same modules, one with the report, one whether to stop, and DeepSpeed's norm."""
    assert not steps[mode].keys() & set(OBJECTS)
    assert steps[mode].keys() <= {GATHER, SCATTER, REDUCE}
    assert steps[mode][REDUCE][0] == 4
    assert steps[mode][REDUCE][1] < 2_000
