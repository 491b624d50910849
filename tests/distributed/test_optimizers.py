"""An optimizer that says that ZeRO can run it ends on two processes where it ends on one, and goes on to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_jobs
from helpers.sampling import asked, sampled
from ltxcore.declarations import zero_stages_of
from ltxcore.registry import load

pytestmark = pytest.mark.slow

MODE = "a stranger's condition, LoRA"
STEPS = 10
DIFFERENCE = 1e-5
EVERY = [
    (name, stage)
    for name, named in load().of_kind("optimizer").items()
    if named.origin.distribution == "ltx"
    for stage in sorted(zero_stages_of(named.value))
]

RESUMED = ("lion", 3)
"""AdamW's state is resumed in tests of its own; this one keeps another, of other names, and counts nothing."""

CASES = sampled(EVERY, 0, set, in_ci=[RESUMED])
"""Every optimizer and every stage; not each with each."""


def tables(root: Path, output: Path, optimizer: str, **changed: Any) -> dict[str, Any]:
    """Ten steps in float32, with checkpoints, of four parameter groups."""
    run = run_tables(MODE, root, output, **changed)
    run["lora"] = {**run["lora"], "dropout": 0.0, "groups": [{"modules": ["to_v"], "rank": 2, "learning_rate": 5e-5, "weight_decay": 0.1}]}
    more = {"optimizer_type": optimizer, "learning_rate": 1e-4, "lora_plus_ratio": 2, "steps": STEPS}
    run["optimization"] = {**run["optimization"], **more}
    run["checkpoints"] = {**run["checkpoints"], "interval": 4, "keep_last_n": -1}
    run["data"] = {**run["data"], "held_out": 0}
    return run


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The optimizers on one process, and on two under ZeRO; one of them also with a stop after the fourth step."""
    path = tmp_path_factory.mktemp("optimizers")
    root = make_set(path / "data")
    alone, together, stopped = [], [], []
    cases = sorted({*asked(request, "name", "stage"), RESUMED})
    for name in dict(cases):
        one = tables(root, path / name, name)
        one["optimization"]["gradient_accumulation_steps"] = 2
        alone.append({"run": write(path, name, one)})
    for name, stage in cases:
        for jobs, end in ((together, "two"), *([(stopped, "stopped")] if (name, stage) == RESUMED else [])):
            label = f"{name}.{stage}.{end}"
            jobs.append({"run": write(path, label, tables(root, path / label, name, engine=zero(path, stage)))})
    stops = [{**job, "environment": {"STOP_AT": "4:15"}} for job in stopped]
    goes_on = [{**job, "environment": {"STOP_AT": "99:15"}} for job in stopped]
    for processes, jobs, steps in ((1, alone, STEPS), (2, together, STEPS), (2, stops, 4), (2, goes_on, STEPS)):
        for results in run_jobs(path, [{"environment": {"STOP_AT": "99:15"}, **job} for job in jobs], processes, **UNCHECKED):
            assert [result.get("step", result) for result in results] == [steps] * len(jobs)
    return path


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "lora.safetensors")


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_two_processes_end_where_one_does(folder: Path, name: str, stage: int) -> None:
    one, two = (weights(folder / each) for each in (name, f"{name}.{stage}.two"))
    assert furthest(one, two) < DIFFERENCE
    assert max(float(tensor.abs().max()) for key, tensor in one.items() if "lora_B" in key) > 50 * DIFFERENCE, "it has learned"


def test_two_processes_go_on_to_the_last_bit_with_a_state_of_other_names(folder: Path) -> None:
    two, stopped = (weights(folder / ".".join([*map(str, RESUMED), end])) for end in ("two", "stopped"))
    assert furthest(two, stopped) == 0.0
