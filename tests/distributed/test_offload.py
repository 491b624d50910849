"""What lies in CPU memory under ZeRO, or on a disk, the optimizer or weights too, trains as what lies on the device does.

Takes about a minute and a half on two free cores, half of it for the compilation of DeepSpeed's Adam; as much more where what NVMe needs is compiled too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers.engine_modes import WHOLE, make_set, run_tables, slug, write, zero
from helpers.launches import UNCHECKED, run_jobs
from helpers.sampling import asked, sampled
from ltxcore.engines.process_group import deepspeed

pytestmark = pytest.mark.slow

MODES = ("both, full, accumulation", "both, reference and suffix, LoRA")
AWAY = ("optimizer", "all")
STEPS = {"steps": 3, "batch_size": 2, "learning_rate": 2e-3}


def name_of(mode: str, offload: str) -> str:
    return f"{slug(mode)}.{offload}"


def is_compilable(builder: str) -> bool:
    return all(map(shutil.which, ("ninja", "c++"))) and getattr(deepspeed().ops.op_builder, builder)().is_compatible(verbose=False)


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each mode with nothing in CPU memory, and with what is asked for there, under stage 3."""
    path = tmp_path_factory.mktemp("offload")
    root = make_set(path / "data")
    data = {"preprocessed_data_root": str(root), "held_out": 0, "num_dataloader_workers": 0}
    jobs = []
    cases = asked(request, "mode", "offload")
    for mode, offload in [*((mode, "none") for mode in dict.fromkeys([MODES[0], *(mode for mode, _ in cases)])), *cases]:
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


@pytest.mark.parametrize(("mode", "offload"), sampled([(mode, offload) for mode in MODES for offload in AWAY], 2, set))
def test_a_run_in_host_memory_has_the_losses_and_the_weights_of_one_on_the_device(folder: Path, mode: str, offload: str) -> None:
    here, away = (losses(folder / name_of(mode, how)) for how in ("none", offload))
    assert len(here) == len(away) == STEPS["steps"]
    assert len({loss for loss, _ in here}) == STEPS["steps"]
    for expected, found in zip(here, away, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    one, two = (load_file(next((folder / name_of(mode, how)).glob("*.safetensors"))) for how in ("none", offload))
    assert one.keys() == two.keys()
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-4


@pytest.fixture
def quick_compiler(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment that compiles without optimisation, in a quarter of the time, and keeps what it made from that of users."""
    path = tmp_path / "c++"
    path.write_text('#!/bin/sh\nexec c++ "$@" -O0 -g0\n')
    path.chmod(0o755)
    return {"CXX": str(path), "TORCH_EXTENSIONS_DIR": str(request.config.cache.mkdir("extensions"))}


ON_DISK = ({"offload_optimizer": "nvme"}, {"offload_optimizer": "nvme", "offload_param": "nvme"})


@pytest.mark.parametrize(
    ("builder", "config", "away"),
    [
        pytest.param("CPUAdamBuilder", {"zero_force_ds_cpu_optimizer": True}, {"offload_optimizer": "cpu"}, id="DeepSpeed's Adam"),
        *(pytest.param("AsyncIOBuilder", {}, away, id=" and ".join(away)) for away in ON_DISK),
    ],
)
def test_what_is_compiled_trains_as_what_is_not(
    folder: Path, tmp_path: Path, quick_compiler: dict[str, str], builder: str, config: dict[str, Any], away: dict[str, str]
) -> None:
    if not is_compilable(builder):
        pytest.skip(
            f"{builder} cannot be compiled here: {'libaio-dev' if builder == 'AsyncIOBuilder' else 'g++ or ninja-build'} is not installed"
        )
    mode = MODES[0]
    places = {"cpu": {"device": "cpu"}, "nvme": {"device": "nvme", "nvme_path": str(tmp_path)}}
    zero_optimization = {"stage": 3, "stage3_param_persistence_threshold": WHOLE, **{part: places[place] for part, place in away.items()}}
    (tmp_path / "ds.json").write_text(json.dumps({**config, "zero_optimization": zero_optimization}))
    engine = {"name": "zero", "deepspeed_config": str(tmp_path / "ds.json")}
    data = {"preprocessed_data_root": str(folder / "data"), "held_out": 0, "num_dataloader_workers": 0}
    tables = run_tables(mode, folder / "data", tmp_path / "run", optimization=STEPS, data=data, engine=engine)
    for results in run_jobs(tmp_path, [{"run": write(tmp_path, "run", tables)}], 2, **UNCHECKED, **quick_compiler):
        assert results[0].get("finished"), results
    for expected, found in zip(losses(folder / name_of(mode, "none")), losses(tmp_path / "run"), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
