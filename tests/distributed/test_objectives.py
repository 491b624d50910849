"""Several objectives end on two processes where they end on one, at every stage, with accumulation, and with captions that are dropped: some
of them ask the base, with prompts or with guidance, one asks the average of the weights, and one reads a dataset of its own. The base is a
LoRA's, or a copy that each process keeps whole while all weights are trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.engine_modes import make_set, run_tables, slug, small_model, write, zero
from helpers.launches import UNCHECKED, run_jobs

pytestmark = pytest.mark.slow

STEPS = 6
DIFFERENCE = 1e-5
RARE = 1e-5
"""The share of weights that may differ by more: where a gradient is almost zero, Adam makes a step of its last digits. Of a LoRA, it is none."""
OBJECTIVES: list[dict[str, Any]] = [
    {"type": "flow_matching"},
    {"type": "flow_matching", "error": "l1", "weight": 0.5, "probability": 0.5},
    {"type": "preservation", "prompt": "a low tone"},
    {"type": "distill", "guidance": 2.0, "weight": 0.25},
    {"type": "distill", "guidance": 1.5, "teacher": "ema", "weight": 0.25, "probability": 0.75},
    {"type": "slider", "towards": "a high tone", "weight": 0.5},
]

LORA, FULL = "a stranger's condition, LoRA", "sound, prefix, full"
CASES = [(LORA, 1, 1), (LORA, 2, 2), (LORA, 3, 1), (FULL, 2, 1), (FULL, 3, 1)]
ALONE = [(LORA, 1), (LORA, 2), (FULL, 1)]


def tables(mode: str, root: Path, output: Path, accumulation: int, **changed: Any) -> dict[str, Any]:
    """Six steps in float32."""
    run = run_tables(mode, root, output, **changed)
    run["objectives"] = [*OBJECTIVES, {"type": "regularization", "dataset": str(root), "weight": 0.5, "probability": 0.75}]
    run["ema"] = {"decay": 0.9}
    if mode == FULL:
        run["model"]["base"] = "copy"
    else:
        run["lora"]["dropout"] = 0.0
    more = {"learning_rate": 1e-3, "steps": STEPS, "gradient_accumulation_steps": accumulation}
    run["optimization"] = {**run["optimization"], **more, "enable_gradient_checkpointing": True}
    run["data"] = {**run["data"], "held_out": 2, "caption_dropout": 0.5}
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objectives")
    root = make_set(path / "data")
    alone = [{"run": write(path, of_one(mode, each).name, tables(mode, root, path / of_one(mode, each), 2 * each))} for mode, each in ALONE]
    together = [
        {
            "run": write(
                path, of_two(mode, stage).name, tables(mode, root, path / of_two(mode, stage), accumulation, engine=zero(path, stage))
            )
        }
        for mode, stage, accumulation in CASES
    ]
    for processes, jobs in ((1, alone), (2, together)):
        for results in run_jobs(path, [{"environment": {"STOP_AT": "99:15"}, **job} for job in jobs], processes, **UNCHECKED):
            assert [result.get("step", result) for result in results] == [STEPS] * len(jobs)
    return path


def of_one(mode: str, accumulation: int) -> Path:
    return Path(f"{slug(mode)}.one.{accumulation}")


def of_two(mode: str, stage: int) -> Path:
    return Path(f"{slug(mode)}.two.{stage}")


@pytest.mark.parametrize(("mode", "stage", "accumulation"), CASES)
def test_two_processes_learn_what_one_learns(folder: Path, mode: str, stage: int, accumulation: int) -> None:
    name = "model.safetensors" if mode == FULL else "lora.safetensors"
    one, two = (load_file(folder / each / name) for each in (of_one(mode, accumulation), of_two(mode, stage)))
    assert one.keys() == two.keys()
    apart = torch.cat([(one[key] - two[key]).abs().flatten() for key in one])
    assert int((apart >= DIFFERENCE).sum()) <= RARE * len(apart)
    assert float(apart.max()) < 10 * DIFFERENCE
    base = load_file(small_model(folder / "data")) if mode == FULL else dict.fromkeys([key for key in one if "lora_B" in key], 0.0)
    assert max(float((one[key] - base[key]).abs().max()) for key in base) > 50 * DIFFERENCE, "it has learned"


@pytest.mark.parametrize(("mode", "stage", "accumulation"), CASES)
def test_two_processes_measure_the_losses_that_one_measures(folder: Path, mode: str, stage: int, accumulation: int) -> None:
    one, two = (measured(folder / each / "metrics.jsonl") for each in (of_one(mode, accumulation), of_two(mode, stage)))
    assert {name.split("/")[1] for name in one} >= {
        "own_context",
        "flow_matching_2",
        "preservation",
        "distill",
        "distill_2",
        "slider",
        "regularization",
    }
    assert two == pytest.approx(one, abs=1e-4)


def measured(metrics: Path) -> dict[str, float]:
    """The validation losses after the last step."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines() if '"held_out/' in line]
    return {name: value for name, value in lines[-1].items() if name.startswith("held_out/")}
