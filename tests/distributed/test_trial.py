"""A step that is tried before training, of the largest micro-batch, changes no bit of the run that follows under any stage of ZeRO."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_jobs
from helpers.sampling import asked, sampled
from ltxcore.files import digest

pytestmark = pytest.mark.slow

FULL, LORA = "both, full, accumulation", "both, reference and suffix, LoRA"
STEPS = {"steps": 3, "batch_size": 2, "learning_rate": 2e-3}
BF16 = {"acceleration": {"mixed_precision_mode": "bf16"}}
FLOAT32_SUMS = {"data_types": {"grad_accum_dtype": "fp32"}}

RUNS: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    "stage 1": (FULL, 1, {"accumulation": 2}),
    "stage 1, bf16, gradients added in float32": (FULL, 1, {"accumulation": 2, "config": FLOAT32_SUMS, **BF16}),
    "stage 2": (FULL, 2, {}),
    "stage 2, bf16, gradients added in float32": (FULL, 2, {"accumulation": 2, "config": FLOAT32_SUMS, **BF16}),
    "stage 2, optimizer in CPU memory": (LORA, 2, {"offload": "optimizer"}),
    "stage 3, bf16": (FULL, 3, {"accumulation": 2, **BF16}),
    "stage 3, all in CPU memory": (LORA, 3, {"offload": "all"}),
}
"""Every way in which DeepSpeed keeps gradients from one pass to the next: mode, stage, and what is set."""


def run_file(folder: Path, name: str, is_tried: bool) -> Path:
    mode, stage, said = RUNS[name]
    engine = zero(folder, stage, **{key: said[key] for key in ("offload",) if key in said})
    if "config" in said:
        config = folder / f"{name}.json"
        config.write_text(json.dumps({**json.loads(Path(engine["deepspeed_config"]).read_text()), **said["config"]}))
        engine["deepspeed_config"] = str(config)
    tables = run_tables(
        mode,
        folder / "data",
        output(folder, name, is_tried),
        engine=engine,
        optimization={**STEPS, "gradient_accumulation_steps": said.get("accumulation", 1)},
        data={"held_out": 0, "num_dataloader_workers": 0},
        checkpoints={"interval": 2},
        acceleration=said.get("acceleration", {}),
    )
    del tables["flow_matching"]  # the draws of a step that is tried are of no sample, so that they cannot be recorded
    return write(folder, output(folder, name, is_tried).name, tables)


def output(folder: Path, name: str, is_tried: bool) -> Path:
    return folder / f"{name}{', tried' if is_tried else ''}"


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trial")
    make_set(path / "data")
    each = [(name, is_tried) for name in asked(request, "name") for is_tried in (False, True)]
    jobs = [{"run": run_file(path, name, is_tried), "tried": is_tried} for name, is_tried in each]
    for results in run_jobs(path, jobs, 2, **UNCHECKED):
        assert [(result.get("step", result), result.get("tried")) for result in results] == [(3, int(is_tried)) for _, is_tried in each]
    return path


def shown(name: str) -> set[object]:
    mode, stage, said = RUNS[name]
    return {mode, stage, *said}


@pytest.mark.parametrize("name", sampled(RUNS, 4, shown))
def test_a_run_is_the_same_after_a_step_that_was_tried(folder: Path, name: str) -> None:
    plain, tried = (output(folder, name, is_tried) for is_tried in (False, True))
    files = sorted(path.relative_to(plain) for path in plain.rglob("*.safetensors"))
    assert len(files) >= 3  # of the checkpoint and of the end
    assert [digest(tried / file) for file in files] == [digest(plain / file) for file in files]
    assert numbers(tried) == numbers(plain)
    assert len(numbers(plain)) == STEPS["steps"]


def numbers(path: Path) -> list[dict[str, float]]:
    """What was measured in each step."""
    clock = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines if "loss" in line]
