"""Going on exactly: after kills at any moment on one process, after the death of one of two, and on another number of processes.

A sample of it, with every plugin, takes about two minutes on two free cores; the whole five more.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli
from safetensors.torch import load_file

from helpers.engine_modes import EXAMPLES, MODES, OWN, PLUGIN, RUN_FILES, make_set, plugins_of, run_tables, slug, write, zero
from helpers.launches import UNCHECKED, finish, run_jobs, run_launches, start
from helpers.sampling import SEED, asked, sampled
from ltxcore.runs import checkpoint

pytestmark = pytest.mark.slow

SHORT = {"steps": 8, "batch_size": 2, "learning_rate": 2e-3}
MANY = [("both, reference and suffix, LoRA", 3), ("both, full, accumulation", 3), ("sound, prefix, full", 2)]
"""Modes and stages that are gone on with on two processes."""


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


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest, folder: Path) -> dict[str, list[dict[str, object]]]:
    """What became of `goes_on` for each run file and mode that is asked for: two processes do half of them each."""
    worlds = [folder / "world.0", folder / "world.1"]  # each process encodes what its runs need
    for world in worlds:
        made = [sys.executable, EXAMPLES / "make_world.py", "--count", "6", "--out", world]
        subprocess.run(made, check=True, capture_output=True)
    saves = {"interval": 3}
    halves: list[list[str]] = [asked(request, "name")[start :: len(worlds)] for start in range(len(worlds))]

    def jobs(name: str, world: Path) -> list[dict[str, object]]:
        if name in RUN_FILES:
            return goes_on(example(folder, name, f"{name}.whole", world), example(folder, name, f"{name}.killed", world, checkpoints=saves))
        whole, half = f"{slug(name)}.whole", f"{slug(name)}.killed"
        return goes_on(run_file(folder, whole, name), run_file(folder, half, name, checkpoints=saves))

    def results(half: list[str], world: Path) -> list[dict[str, object]]:
        return run_jobs(folder, [job for name in half for job in jobs(name, world)], 1, **UNCHECKED)[0]

    with ThreadPoolExecutor(len(worlds)) as pool:
        found = list(pool.map(results, halves, worlds))
    return {name: each[3 * index : 3 * index + 3] for half, each in zip(halves, found, strict=True) for index, name in enumerate(half)}


@pytest.mark.parametrize("name", sampled([*RUN_FILES, *OWN], 0, plugins_of))
def test_a_run_goes_on_to_the_last_bit_after_a_kill_on_one_process(
    folder: Path, killed: dict[str, list[dict[str, object]]], name: str
) -> None:
    first, kill, second = killed[name]
    assert first.get("finished"), first
    assert kill == {"signal": signal.SIGKILL}
    assert second.get("finished"), second
    whole, half = folder / f"{slug(name)}.whole", folder / f"{slug(name)}.killed"
    assert weights(half) == weights(whole)
    assert losses(half) == losses(whole)


FORKED = """
import gc, os, sys, random, signal, time
from pathlib import Path
import torch
from ltxcore.config.load import load_run
from ltxcore.runs import checkpoint
from ltxcore.train.start_run import run
import ltxcore.models.load_base, peft

torch.set_num_threads(1)
gc.freeze()
run_file, kills, most, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
wait = random.Random(seed)
folder = load_run(run_file).config.output_dir / "checkpoints"
saved, is_met = 0, False
for number in range(most):
    if is_met and number >= kills:
        break
    child = os.fork()
    if not child:
        os.close(1)
        run(load_run(run_file))
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
    saved, is_met = newest.step, is_met or bool(half)
    print(saved, len(half), flush=True)
"""
"""Kills a run again and again, until it was often enough and one kill met a save; imports once, so that a kill takes seconds. Prints the newest step saved
after each, and the folders left half-written."""

MOST = 40


@pytest.mark.parametrize("kills", sampled([4, 20], 0, lambda kills: {"some"} if kills < 20 else ()))
def test_kills_at_any_moment_lose_nothing_but_the_steps_since_the_last_save(folder: Path, kills: int) -> None:
    mode = "both, full, accumulation"
    steps = {**SHORT, "steps": 400, "gradient_accumulation_steps": 1}
    # Not the small model, no save of which a kill would meet.
    larger = {"model": {**MODES[mode]["model"], "model_path": "tiny-untrained"}, "optimization": steps}
    name = f"kills.{kills}"
    killed = run_file(folder, name, mode, **larger, checkpoints={"interval": 1, "keep_last_n": 2, "precision": "bfloat16"})
    said = finish(start([sys.executable, "-c", FORKED, str(killed), str(kills), str(MOST), str(SEED)]), limit=900)
    told = [line.split() for line in said.splitlines() if line.replace(" ", "").isdecimal()]
    assert len(told) >= kills, said
    assert any(int(half) for _, half in told), "no kill met a save"
    reached = int(told[-1][0])
    whole = run_file(folder, f"{name}.not", mode, **larger)
    stop = {"environment": {"STOP_AT": f"{reached}:15"}}
    assert run_jobs(folder, [{"run": whole, **stop}], 1)[0][0]["step"] == reached
    first, second = (checkpoint.found(folder / each / "checkpoints")[-1] for each in (f"{name}.not", name))
    assert first.step == second.step == reached
    one, two = (checkpoint.load_state(saved)[0] for saved in (first, second))
    assert one.keys() == two.keys()
    assert all(bool((one[key] == two[key]).all()) for key in one)


def at_once(folder: Path, many: list[tuple[str, int]], end: str, **more: object) -> list[dict[str, object]]:
    """Jobs of one launch: the run of each mode and stage whose name ends so, written where it is not there yet."""
    saves = {"interval": 100 if end == "moved" else 3}
    name = "auto" if end == "moved" else "zero"
    paths = [
        run_file(folder, f"{slug(mode)}.{stage}.{end}", mode, engine={**zero(folder, stage), "name": name}, checkpoints=saves)
        for mode, stage in many
    ]
    return [{"run": path, **more} for path in paths]


@pytest.fixture(scope="module")
def two(request: pytest.FixtureRequest, folder: Path) -> Path:
    """Runs on two processes from beginning to end; and the same, stopped after their third step."""
    many = asked(request, "mode", "stage")
    jobs = [*at_once(folder, many, "two"), *at_once(folder, many, "moved", environment={"STOP_AT": "3:15"})]
    for results in run_jobs(folder, jobs, 2, **UNCHECKED):
        assert [result.get("step", result) for result in results] == [SHORT["steps"]] * len(many) + [3] * len(many)
    return folder


@pytest.mark.parametrize(("mode", "stage"), sampled(MANY, 1))
def test_two_processes_go_on_to_the_last_bit_after_one_of_them_died(two: Path, mode: str, stage: int) -> None:
    name = f"{slug(mode)}.{stage}.died"
    jobs = at_once(two, [(mode, stage)], "died")
    command = [sys.executable, "-m", "ltxcore", "launch", "--num-gpus", "2", str(jobs[0]["run"])]
    process = start(command, STOP_AT="5:9", **UNCHECKED)  # the first process alone has trackers
    said = finish(process, limit=900)
    died = time.time()
    assert process.returncode not in (0, None), said
    last = (two / name / "metrics.jsonl").stat().st_mtime
    assert died - last < 60, said
    told = "process 0 was killed by signal 9 (SIGKILL), often by the kernel when memory runs out (`dmesg` says so), so this run ends"
    assert said.count(f"{told}\n    The same command resumes after step 3, the last one saved.") == 1, said
    assert "ended without a message" not in said  # the launcher tells it
    assert "Traceback" not in said
    assert [saved.step for saved in checkpoint.found(two / name / "checkpoints")] == [3]
    for results in run_jobs(two, jobs, 2, **UNCHECKED):
        assert results[0].get("finished"), results
    whole = two / f"{slug(mode)}.{stage}.two"
    assert weights(two / name) == weights(whole)
    assert losses(two / name) == losses(whole)


def doubled(mode: str) -> int:
    """Micro-batches of a step on one process, where two took it before."""
    return 2 * int(MODES[mode].get("optimization", {}).get("gradient_accumulation_steps", 1))


@pytest.fixture(scope="module")
def moved(request: pytest.FixtureRequest, two: Path) -> dict[tuple[str, int], dict[str, dict[str, object]]]:
    """What became of each run that two processes stopped: on one as it is and with its accumulation doubled, and on two again."""
    many = asked(request, "mode", "stage")

    def jobs(step: int) -> list[dict[str, object]]:
        return at_once(two, many, "moved", environment={"STOP_AT": f"{step}:15"})

    alone = [
        {**job, "settings": [f"optimization.gradient_accumulation_steps={doubled(mode)}"]}
        for job, (mode, _) in zip(jobs(5), many, strict=True)
    ]
    (one,), again = run_launches(two, [(1, [*jobs(3), *alone]), (2, jobs(99))], **UNCHECKED)
    found = {"refused": one[: len(many)], "alone": one[len(many) :], "first": again[0], "second": again[1]}
    return {case: {name: results[index] for name, results in found.items()} for index, case in enumerate(many)}


@pytest.mark.parametrize(("mode", "stage"), sampled(MANY, 2, lambda case: {case[1]}))
def test_another_number_of_processes_goes_on_with_the_same_global_batch(
    two: Path, moved: dict[tuple[str, int], dict[str, dict[str, object]]], mode: str, stage: int
) -> None:
    found = moved[mode, stage]
    refused, each = str(found["refused"]["error"]), doubled(mode)
    assert f"holds an unfinished run that takes {each} micro-batches per step (accumulation {each // 2}, processes 2)" in refused
    assert refused.endswith(f"Set optimization.gradient_accumulation_steps to {each}.")
    assert found["alone"]["step"] == 5
    assert [found[name]["finished"] for name in ("first", "second")] == [True, True]
    names = [f"{slug(mode)}.{stage}.{end}" for end in ("two", "moved")]
    whole, on = (losses(two / name) for name in names)
    assert len(on) == len(whole) == 8
    for expected, got in zip(whole, on, strict=True):
        assert got == pytest.approx(expected, abs=1e-4)
    one, other = (load_file(next((two / name).glob("*.safetensors"))) for name in names)
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-3
