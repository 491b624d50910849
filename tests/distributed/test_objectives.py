"""Several objectives, of which two ask the base and have prompts, end on two processes where they end on one, at every stage, and with accumulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_jobs

pytestmark = pytest.mark.slow

STEPS = 6
DIFFERENCE = 1e-5
OBJECTIVES = [
    {"type": "flow_matching"},
    {"type": "flow_matching", "error": "l1", "weight": 0.5, "probability": 0.5},
    {"type": "preservation", "prompt": "a low tone"},
    {"type": "slider", "towards": "a high tone", "weight": 0.5},
]

CASES = [("a stranger's condition, LoRA", 1, 1), ("a stranger's condition, LoRA", 2, 2), ("a stranger's condition, LoRA", 3, 1)]


def tables(root: Path, output: Path, accumulation: int, **changed: Any) -> dict[str, Any]:
    """Six steps in float32."""
    run = run_tables(CASES[0][0], root, output, **changed)
    run["objectives"] = OBJECTIVES
    run["lora"] = {**run["lora"], "dropout": 0.0}
    more = {"learning_rate": 1e-3, "steps": STEPS, "gradient_accumulation_steps": accumulation}
    run["optimization"] = {**run["optimization"], **more, "enable_gradient_checkpointing": True}
    run["data"] = {**run["data"], "held_out": 0}
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objectives")
    root = make_set(path / "data")
    alone = [{"run": write(path, f"one.{each}", tables(root, path / f"one.{each}", 2 * each))} for each in (1, 2)]
    together = [
        {"run": write(path, f"two.{stage}", tables(root, path / f"two.{stage}", accumulation, engine=zero(path, stage)))}
        for _, stage, accumulation in CASES
    ]
    for processes, jobs in ((1, alone), (2, together)):
        for results in run_jobs(path, [{"environment": {"STOP_AT": "99:15"}, **job} for job in jobs], processes, **UNCHECKED):
            assert [result.get("step", result) for result in results] == [STEPS] * len(jobs)
    return path


@pytest.mark.parametrize(("mode", "stage", "accumulation"), CASES)
def test_two_processes_learn_what_one_learns(folder: Path, mode: str, stage: int, accumulation: int) -> None:
    one, two = (load_file(folder / name / "lora.safetensors") for name in (f"one.{accumulation}", f"two.{stage}"))
    assert one.keys() == two.keys()
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < DIFFERENCE
    assert max(float(tensor.abs().max()) for key, tensor in one.items() if "lora_B" in key) > 50 * DIFFERENCE, "it has learned"
