"""Going on exactly: after kills at any moment on one process, after the death of one of two, and on another number of processes.

Takes about seven minutes on two free cores.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest
import tomli
from safetensors.torch import load_file

from distributed.many import finish, run_jobs, start
from distributed.modes import EXAMPLES, MODES, OWN, PLUGIN, RUN_FILES, make_set, run_tables, slug, write, zero
from ltxcore.runs import checkpoint

pytestmark = pytest.mark.slow

SHORT = {"steps": 8, "batch_size": 2, "learning_rate": 2e-3}
MANY = [("both, reference and suffix, LoRA", 3), ("both, full, accumulation", 3), ("sound, prefix, full", 2)]
"""Modes and stages that are gone on with on two processes."""

KILLS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume")
    make_set(path / "data")
    return path


def run_file(folder: Path, name: str, mode: str, **changed: object) -> Path:
    return write(folder, name, run_tables(mode, folder / "data", folder / name, **{"optimization": SHORT, **changed}))


def weights(output: Path) -> str:
    """The digest of what was trained. Where CI is set, pytest compares what differs to the end, and with the bytes themselves that takes hours."""
    return checkpoint.digest(next(output.glob("*.safetensors")))


def losses(output: Path) -> list[dict[str, float]]:
    """The lines of training steps, without what depends on the clock or on where a step was done."""
    clock = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines if "loss" in line]


def example(folder: Path, name: str, output: str, world: Path, **changed: object) -> Path:
    """A run file of `examples/` on the six clips of a world, for six steps."""
    tables = tomli.loads((EXAMPLES / f"{name}.toml").read_text())
    shorter = {
        "optimization": {**tables["optimization"], "steps": 6, "batch_size": 2},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
        "data": {"dataset": str(world / "clips.jsonl"), "held_out": 2, "num_dataloader_workers": 0},
        "plugins": [str(PLUGIN)],
        "trackers": {"ender": {}},
    }
    return write(folder, output, {**tables, "output_dir": str(folder / output), **shorter, **changed})


def goes_on(whole: Path, killed: Path) -> list[dict[str, object]]:
    """Jobs: a run from beginning to end; the same one, killed without a word in its fifth step; and gone on with."""
    kill = {"environment": {"STOP_AT": "5:9"}, "forked": True}
    quiet = {"environment": {"STOP_AT": "0:0"}}
    return [{"run": whole, **quiet}, {"run": killed, **kill}, {"run": killed, **quiet}]


def test_every_run_file_and_every_mode_goes_on_to_the_last_bit_after_a_kill_on_one_process(folder: Path) -> None:
    worlds = [folder / "world.0", folder / "world.1"]  # of two processes, each of which does half of the runs and encodes what they need
    for world in worlds:
        made = [sys.executable, EXAMPLES / "make_world.py", "--count", "6", "--out", world]
        subprocess.run(made, check=True, capture_output=True)
    assert len(RUN_FILES) >= 16
    saves = {"interval": 3}
    runs = {
        name: (example(folder, name, f"{name}.whole", world), example(folder, name, f"{name}.killed", world, checkpoints=saves))
        for name, world in zip(RUN_FILES, cycle(worlds), strict=False)
    }
    for mode in OWN:
        runs[slug(mode)] = (
            run_file(folder, f"{slug(mode)}.whole", mode),
            run_file(folder, f"{slug(mode)}.killed", mode, checkpoints=saves),
        )
    names = [list(runs)[start :: len(worlds)] for start in range(len(worlds))]
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda half: run_jobs(folder, [job for name in half for job in goes_on(*runs[name])], 1)[0], names))
    for half, results in zip(names, found, strict=True):
        for name, (first, kill, second) in zip(half, zip(*[iter(results)] * 3, strict=True), strict=True):
            assert first.get("finished"), (name, first)
            assert kill == {"signal": signal.SIGKILL}, (name, kill)
            assert second.get("finished"), (name, second)
            whole, killed = folder / f"{name}.whole", folder / f"{name}.killed"
            assert weights(killed) == weights(whole), name
            assert losses(killed) == losses(whole), name


FORKED = """
import os, sys, random, signal, time
from pathlib import Path
import torch
from rich.console import Console
from ltxcore.config.load import load_run
from ltxcore.train import checkpoint
from ltxcore.train.start_run import run
import ltxcore.models.load_base, peft

torch.set_num_threads(1)
run_file, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
wait = random.Random(seed)
folder = load_run(run_file).config.output_dir / "checkpoints"
saved = 0
for number in range(kills):
    child = os.fork()
    if not child:
        os.close(1)
        run(load_run(run_file), Console(quiet=True))
        os._exit(0)
    # Wait until it goes on, then for a moment of any length: within a step, or within a save.
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not checkpoint.found(folder) or checkpoint.found(folder)[-1].step <= saved):
        time.sleep(0.01)
    time.sleep(wait.uniform(0, 0.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    newest = checkpoint.found(folder)[-1]
    assert checkpoint.check(newest), newest
    half = [path for path in folder.iterdir() if path.name.startswith("step_") and not (path / "manifest.json").exists()]
    assert newest.step > saved, (newest, saved)
    saved = newest.step
    print(saved, len(half), flush=True)
"""
"""Kills a run again and again; imports once, so that a kill takes seconds. Prints the newest step saved after each, and the folders left half-written."""


def test_twenty_kills_at_any_moment_lose_nothing_but_the_steps_since_the_last_save(folder: Path) -> None:
    mode = "both, full, accumulation"
    steps = {**SHORT, "steps": 400, "gradient_accumulation_steps": 1}
    # Not the small model, no save of which a kill would meet.
    larger = {"model": {**MODES[mode]["model"], "model_path": "tiny-untrained"}, "optimization": steps}
    killed = run_file(folder, "kills", mode, **larger, checkpoints={"interval": 1, "keep_last_n": 2, "precision": "bfloat16"})
    said = finish(start([sys.executable, "-c", FORKED, str(killed), str(KILLS), "7"]), limit=900)
    told = [line.split() for line in said.splitlines() if line.replace(" ", "").isdecimal()]
    assert len(told) == KILLS, said
    assert any(int(half) for _, half in told), "no kill met a save"
    reached = int(told[-1][0])
    whole = run_file(folder, "not_killed", mode, **larger)
    stop = {"environment": {"STOP_AT": f"{reached}:15"}}
    assert run_jobs(folder, [{"run": whole, **stop}], 1)[0][0]["step"] == reached
    first, second = (checkpoint.found(folder / name / "checkpoints")[-1] for name in ("not_killed", "kills"))
    assert first.step == second.step == reached
    one, two = (checkpoint.load_state(saved)[0] for saved in (first, second))
    assert one.keys() == two.keys()
    assert all(bool((one[key] == two[key]).all()) for key in one)


@pytest.fixture(scope="module")
def two(folder: Path) -> Path:
    """Runs on two processes from beginning to end."""
    jobs = [
        {"run": run_file(folder, f"{slug(mode)}.{stage}.two", mode, engine=zero(folder, stage), checkpoints={"interval": 3})}
        for mode, stage in MANY
    ]
    for results in run_jobs(folder, jobs, 2):
        assert all(result.get("finished") for result in results), results
    return folder


@pytest.mark.parametrize(("mode", "stage"), MANY)
def test_two_processes_go_on_to_the_last_bit_after_one_of_them_died(two: Path, mode: str, stage: int) -> None:
    name = f"{slug(mode)}.{stage}.died"
    path = run_file(two, name, mode, engine=zero(two, stage), checkpoints={"interval": 3})
    command = [sys.executable, "-m", "ltxcore", "launch", "--num-gpus", "2", str(path)]
    process = start(command, STOP_AT="5:9")  # the first process alone has trackers
    said = finish(process, limit=900)
    died = time.time()
    assert process.returncode not in (0, None), said
    last = (two / name / "metrics.jsonl").stat().st_mtime
    assert died - last < 60, said
    told = "process 0 was killed by signal 9 (SIGKILL), often by the kernel when memory runs out (`dmesg` says so), so this run ends"
    assert said.count(f"{told}\n    The same command goes on after step 3, which was saved last.") == 1, said
    assert "ended without a word" not in said  # the launcher tells it
    assert "Traceback" not in said
    assert [saved.step for saved in checkpoint.found(two / name / "checkpoints")] == [3]
    for results in run_jobs(two, [{"run": path}], 2):
        assert results[0].get("finished"), results
    whole = two / f"{slug(mode)}.{stage}.two"
    assert weights(two / name) == weights(whole)
    assert losses(two / name) == losses(whole)


@pytest.mark.parametrize(("mode", "stage"), MANY)
def test_another_number_of_processes_goes_on_with_the_same_global_batch(two: Path, mode: str, stage: int) -> None:
    name = f"{slug(mode)}.{stage}.moved"
    each = MODES[mode].get("optimization", {}).get("gradient_accumulation_steps", 1)
    path = run_file(two, name, mode, engine={**zero(two, stage), "name": "auto"}, checkpoints={"interval": 100})
    alone = [f"optimization.gradient_accumulation_steps={2 * each}"]
    stop = [{"environment": {"STOP_AT": f"{step}:15"}} for step in (3, 5, 99)]
    assert [results[0]["step"] for results in run_jobs(two, [{"run": path, **stop[0]}], 2)] == [3, 3]
    refused = run_jobs(two, [{"run": path}], 1)[0][0]["error"]
    assert f"holds an unfinished run that takes {2 * each} micro-batches a step (accumulation {each}, processes 2)" in refused
    assert refused.endswith(f"Set optimization.gradient_accumulation_steps to {2 * each}.")
    assert run_jobs(two, [{"run": path, "settings": alone, **stop[1]}], 1)[0][0]["step"] == 5
    assert [results[0]["finished"] for results in run_jobs(two, [{"run": path, **stop[2]}], 2)] == [True, True]
    whole, moved = losses(two / f"{slug(mode)}.{stage}.two"), losses(two / name)
    assert len(moved) == len(whole) == 8
    for expected, found in zip(whole, moved, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    first, second = (load_file(next((two / folder).glob("*.safetensors"))) for folder in (f"{slug(mode)}.{stage}.two", name))
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-3
