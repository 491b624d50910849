"""What lies in host memory under ZeRO, the optimiser or weights too, trains as what lies on the device does. Nothing is compiled for it.

Takes about a minute on two free cores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from distributed.many import UNCHECKED, run_jobs
from distributed.modes import make_set, run_tables, slug, write, zero

pytestmark = pytest.mark.slow

MODES = ("both, full, accumulation", "both, reference and suffix, LoRA")
AWAY = ("optimizer", "all")
STEPS = {"steps": 3, "batch_size": 2, "learning_rate": 2e-3}


def name_of(mode: str, offload: str) -> str:
    return f"{slug(mode)}.{offload}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each mode with nothing in host memory, with the optimiser, and with all, under stage 3."""
    path = tmp_path_factory.mktemp("offload")
    root = make_set(path / "data")
    data = {"preprocessed_data_root": str(root), "held_out": 0, "num_dataloader_workers": 0}
    jobs = []
    for mode in MODES:
        for offload in ("none", *AWAY):
            name = name_of(mode, offload)
            tables = run_tables(mode, root, path / name, optimization=STEPS, data=data, engine=zero(path, 3, offload=offload))
            jobs.append({"run": write(path, name, tables)})
    for results in run_jobs(path, jobs, 2, **UNCHECKED):
        assert [result.get("step", result) for result in results] == [STEPS["steps"]] * len(jobs)
    return path


def losses(path: Path) -> list[tuple[float, float]]:
    """Losses and norms of gradients."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


@pytest.mark.parametrize("offload", AWAY)
@pytest.mark.parametrize("mode", MODES)
def test_a_run_in_host_memory_has_the_losses_and_the_weights_of_one_on_the_device(folder: Path, mode: str, offload: str) -> None:
    here, away = (losses(folder / name_of(mode, how)) for how in ("none", offload))
    assert len(here) == len(away) == STEPS["steps"]
    assert len({loss for loss, _ in here}) == STEPS["steps"]
    for expected, found in zip(here, away, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    one, two = (load_file(next((folder / name_of(mode, how)).glob("*.safetensors"))) for how in ("none", offload))
    assert one.keys() == two.keys()
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-4
