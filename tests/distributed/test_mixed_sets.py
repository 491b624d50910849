"""Samples without sound, or without pictures, train on two processes as on one, under ZeRO-3: while one process has both modalities, the other
has one of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.engine_modes import FULL, SMALL, small_model, write, zero
from helpers.launches import UNCHECKED, run_launches
from helpers.mixed_sets import mixed_set, mixed_tables
from helpers.untrained import write_untrained
from ltxcore.config.load import load_run
from ltxcore.encoded.streams import absent_of
from ltxcore.runs.run_plan import draft, plan

pytestmark = pytest.mark.slow

STEPS = 4
DIFFERENCE = 1e-4
"""A step of Adam is as large for the smallest gradient, which rounding changes most."""
CASES = [("lora", 3), ("full", 3)]


def tables(mode: str, root: Path, output: Path, accumulation: int, **changed: Any) -> dict[str, Any]:
    more = {"model": {"model_path": str(small_model(root)), **(FULL["model"] if mode == "full" else {})}}
    run = mixed_tables(root, output, **more, data={"held_out": 3}, checkpoints={"precision": "float32"}, **changed)
    run["validation"] = {"inference_steps": 2, "skip_initial_validation": True}
    run["optimization"] |= {"steps": STEPS, "learning_rate": 1e-3, "gradient_accumulation_steps": accumulation}
    run["optimization"]["enable_gradient_checkpointing"] = mode == "full"
    if mode == "full":
        del run["lora"]
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed")
    root = mixed_set(path / "data")
    write_untrained(small_model(root), SMALL, torch.float32)
    alone = [{"run": write(path, f"{mode}_alone", tables(mode, root, path / f"{mode}_alone", 2))} for mode in ("lora", "full")]
    two = [
        {"run": write(path, f"{mode}_{stage}", tables(mode, root, path / f"{mode}_{stage}", 1, engine=zero(path, stage)))}
        for mode, stage in CASES
    ]
    for launch in run_launches(path, [(1, alone), (2, two)], **UNCHECKED):
        for results in launch:
            assert [result.get("step", result) for result in results] == [STEPS] * len(results)
    return path


def test_the_processes_of_a_step_have_samples_with_other_modalities(folder: Path) -> None:
    planned = plan(draft(load_run(folder / "lora_3.toml"), 1, writes=False).checked())
    kinds = [[absent_of(planned.manifest, each.names[0]) for each in planned.order.step(step, 2)] for step in range(STEPS)]
    assert sum(one != other for one, other in kinds) >= STEPS - 1


@pytest.mark.parametrize(("mode", "stage"), CASES)
def test_losses_and_weights_agree_with_those_of_one_process(folder: Path, mode: str, stage: int) -> None:
    one, two = (folder / f"{mode}_alone", folder / f"{mode}_{stage}")
    expected, found = (
        [{name: value for name, value in json.loads(line).items() if "loss" in name or "held_out" in name} for line in lines]
        for lines in ((path / "metrics.jsonl").read_text().splitlines() for path in (one, two))
    )
    assert len(found) == len(expected) > STEPS
    for line, same in zip(found, expected, strict=True):
        assert line == pytest.approx(same, abs=1e-4)
    weights = [load_file(path / ("model.safetensors" if mode == "full" else "lora.safetensors")) for path in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert float((weights[1][name] - tensor).abs().max()) < DIFFERENCE, name
