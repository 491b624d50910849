"""The moving average on two processes, each of which averages its part: it is that of one process, and goes on to the last bit, on one too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_jobs

pytestmark = pytest.mark.slow

MODE = "a stranger's condition, LoRA"
STEPS, STOP = 4, 2
CASES = [(1, "no"), (2, "bf16"), (3, "no"), (3, "bf16")]
IN_FLOAT32 = [stage for stage, precision in CASES if precision == "no"]
RESUMED = [(2, "bf16"), (3, "no")]


def tables(root: Path, output: Path, precision: str = "no", **changed: Any) -> dict[str, Any]:
    run = run_tables(MODE, root, output, **changed)
    run["lora"] = {**run["lora"], "dropout": 0.0}
    run["optimization"] = {**run["optimization"], "steps": STEPS}
    run["acceleration"] = {"mixed_precision_mode": precision}
    run["checkpoints"] = {**run["checkpoints"], "interval": 2, "keep_last_n": -1}
    run["validation"] = {**run["validation"], "interval": 2}
    run["ema"] = {"decay": 0.9}
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one process; on two at each stage and precision; some of these stopped, and gone on with on two processes and on one."""
    path = tmp_path_factory.mktemp("average")
    root = make_set(path / "data")
    whole = {"environment": {"STOP_AT": "99:15"}}
    halves = {"environment": {"STOP_AT": f"{STOP}:15"}}

    def job(name: str, made: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"run": write(path, name, {**made, "output_dir": str(path / name)}), **more}

    alone = tables(root, path / "one")
    alone["optimization"]["gradient_accumulation_steps"] = 2
    run_jobs(path, [job("one", alone, **whole)], 1, **UNCHECKED)
    engines = {
        (stage, precision): tables(root, path / "any", precision, engine={**zero(path, stage), "name": "auto"})
        for stage, precision in CASES
    }
    two = [job(f"two.{stage}.{precision}", engines[stage, precision], **whole) for stage, precision in CASES]
    ends = [(end, case) for end in ("again", "moved") for case in RESUMED]
    stopped = [job(f"{end}.{case[0]}.{case[1]}", engines[case], **halves) for end, case in ends]
    plain = [job(f"plain.{stage}.{precision}", {**engines[stage, precision], "ema": {}}, **whole) for stage, precision in CASES]
    for results in run_jobs(path, [*two, *plain, *stopped], 2, **UNCHECKED):
        assert [result.get("step", result) for result in results] == [STEPS] * (len(two) + len(plain)) + [STOP] * len(stopped)
    again = [job(f"again.{case[0]}.{case[1]}", engines[case], **whole) for case in RESUMED]
    assert all(result["finished"] for results in run_jobs(path, again, 2, **UNCHECKED) for result in results)
    settings = ["optimization.gradient_accumulation_steps=2"]
    moved = [job(f"moved.{case[0]}.{case[1]}", engines[case], settings=settings, **whole) for case in RESUMED]
    assert all(result.get("finished") for results in run_jobs(path, moved, 1, **UNCHECKED) for result in results)
    return path


def averaged(path: Path) -> dict[str, Tensor]:
    return load_file(path / "lora_ema.safetensors")


def measured(path: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "held_out" in name} for line in lines if any("ema/" in name for name in line)]


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


@pytest.mark.parametrize("stage", IN_FLOAT32)
def test_two_processes_average_and_measure_what_one_does(folder: Path, stage: int) -> None:
    one, two = folder / "one", folder / f"two.{stage}.no"
    assert furthest(averaged(one), averaged(two)) < 1e-5
    assert furthest(averaged(one), load_file(one / "lora.safetensors")) > 1e-4, "they differ from what was trained"
    for expected, got in zip(measured(one), measured(two), strict=True):
        assert got == pytest.approx(expected, abs=1e-4)
    assert any(line[name] != line[name.removeprefix("ema/")] for line in measured(two) for name in line if name.startswith("ema/"))


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_what_is_trained_is_bit_for_bit_that_of_a_run_without_an_average(folder: Path, stage: int, precision: str) -> None:
    one, other = (load_file(folder / f"{name}.{stage}.{precision}" / "lora.safetensors") for name in ("two", "plain"))
    assert furthest(one, other) == 0.0


@pytest.mark.parametrize(("stage", "precision"), RESUMED)
def test_the_average_goes_on_to_the_last_bit_on_two_processes_and_as_nearly_on_one(folder: Path, stage: int, precision: str) -> None:
    whole, again, moved = (folder / f"{end}.{stage}.{precision}" for end in ("two", "again", "moved"))
    assert furthest(averaged(whole), averaged(again)) == 0.0
    assert measured(again) == measured(whole)
    assert furthest(averaged(whole), averaged(moved)) < (1e-5 if precision == "no" else 1e-2)
