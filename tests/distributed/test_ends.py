"""Processes that die, hang, are stopped, or lose their launcher: it is said once who, and from where the same command goes on, and none is left behind."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers.engine_modes import PLUGIN, make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, finish, start, torchrun
from helpers.sampling import sampled

pytestmark = pytest.mark.slow

LAUNCH = [sys.executable, "-m", "ltxcore", "launch", "--num-gpus", "2"]
DEEPSPEED = [*LAUNCH, "--launcher", "deepspeed"]
STUCK = PLUGIN.with_name("stuck.py")
PATIENCE = 6.0
"""Seconds; what a test of a busy machine can rely on."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ends")
    make_set(path / "data")
    return path


def run_file(folder: Path, name: str, patience: float = PATIENCE) -> Path:
    tables = run_tables(
        "both, full, accumulation",
        folder / "data",
        folder / name,
        optimization={"steps": 2000, "batch_size": 2, "learning_rate": 2e-3, "gradient_accumulation_steps": 1, "groups": []},
        engine=zero(folder, 2, patience=patience / 60),
        data={"held_out": 0},
        checkpoints={"interval": 2},
        plugins=[str(PLUGIN), str(STUCK)],
        trackers={"slow": {}},
    )
    return write(folder, name, {**tables, "training_strategy": {"name": "stuck"}})


def ended(command: list[str], folder: Path, name: str, stuck: str, patience: float = PATIENCE) -> tuple[int, str]:
    """Exit status and output of a run that gets stuck."""
    shutil.rmtree(folder / name, ignore_errors=True)
    process = start([*command, str(run_file(folder, name, patience))], **UNCHECKED, STUCK=stuck)
    said = finish(process, limit=300)
    assert command != LAUNCH or ("Traceback" not in said and "ended without a message" not in said), said  # torchrun has one of its own
    assert not re.search(r"\[[WEF]\d{4} .*\.cpp:\d+\]", said), said  # what torch's compiled part writes
    return process.returncode, said


def test_a_process_that_is_killed_is_named_by_the_launcher_with_its_signal_and_one_that_loads_or_saves_is_not_missed(folder: Path) -> None:
    """The first process still has a tracker to finish when the launcher ends it."""
    status, said = ended(LAUNCH, folder, "killed", f"loading:compute:{1.5 * PATIENCE},saving:sleep:{1.5 * PATIENCE},4:kill")
    assert status == 137, said
    assert said.splitlines()[-2:] == [
        "process 1 was killed by signal 9 (SIGKILL), often by the kernel when memory runs out (`dmesg` says so), so this run ends",
        "    The same command resumes after step 2, the last one saved.",
    ]


def test_a_process_that_is_killed_before_the_first_step_is_named_too(folder: Path) -> None:
    status, said = ended(LAUNCH, folder, "early", "loading:kill")
    assert status == 137, said
    assert said.splitlines()[-2].startswith("process 1 was killed by signal 9 (SIGKILL)"), said
    assert said.splitlines()[-1] == "    Nothing was saved yet, so the same command starts over."


@pytest.mark.parametrize("command", [torchrun(2, "-m", "ltxcore", "run"), DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_under_another_launcher_a_process_that_is_left_names_the_one_that_is_gone(folder: Path, command: list[str]) -> None:
    status, said = ended(command, folder, "gone", "4:exit")
    assert status != 0
    lines = [line for line in said.splitlines() if "of 2 ended" in line or "same command" in line]
    assert lines == [
        "process 1 of 2 ended without a message (it was killed, or ran out of memory), so this run ends",
        "    The same command resumes after step 2, the last one saved.",
    ], said


def test_a_process_that_is_stopped_while_it_loads_is_named_within_seconds(folder: Path) -> None:
    status, said = ended(LAUNCH, folder, "stopped", "loading:stop")
    assert status == 2, said
    what = re.search(
        r'^process 1 of 2, which said "reading the encoded samples.*" (\d+) seconds ago, shows no sign of life\. So this run ends$',
        said,
        re.M,
    )
    assert what, said
    assert int(what[1]) < 2 * PATIENCE
    assert said.count("shows no sign of life") == 1
    assert "    Nothing was saved yet, so the same command starts over." in said


def test_a_process_that_hangs_in_a_step_is_named_with_the_place_where_it_does(folder: Path) -> None:
    status, said = ended(LAUNCH, folder, "hanging", "4:wait")
    assert status == 2, said
    what = re.search(
        r"^process 1 of 2 has not moved for (\d+) seconds: after step 2, in at \(.*stuck\.py:\d+\)\. So this run ends$", said, re.M
    )
    assert what, said
    assert int(what[1]) < 2 * PATIENCE
    assert said.count("So this run ends") == 1
    assert "    The same command resumes after step 2, the last one saved." in said


def test_a_process_whose_memory_runs_out_says_so_for_all_with_its_samples(folder: Path) -> None:
    status, said = ended(LAUNCH, folder, "memory", "4:memory")
    assert status == 2, said
    first, rest = said.splitlines()[-2:]
    sizes = r"CPU memory ran out \(this process took up to .*; 2\.00 GiB more were requested\)"
    assert re.fullmatch(rf"process 1 of 2: {sizes} while training step 3 on 2 samples \(\w+, \w+\)", first), said
    assert rest.startswith("    Each of these needs less memory: optimization.enable_gradient_checkpointing = true;"), said
    assert "`ltx plan " in rest
    assert " The same command resumes after step 2, the last one saved. With a changed run file, add --allow-changes." in rest
    assert said.count("ran out") == 1


def test_a_second_interrupt_ends_all_at_once_even_one_that_is_stopped(folder: Path) -> None:
    process = start([*LAUNCH, str(run_file(folder, "twice", patience=0))], **UNCHECKED, STUCK="4:stop")
    children = started(process.pid)
    wait(lambda: any(child.status() == psutil.STATUS_STOPPED for child in children))
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = finish(process, limit=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 130, said
    assert said.splitlines()[-2:] == ["Ended at once, without saving.", "    The same command resumes after step 2, the last one saved."]


@pytest.mark.parametrize(
    ("launcher", "killed"),
    sampled(
        [("own", "ltxcore"), ("DeepSpeed's", "deepspeed.launcher.launch"), ("DeepSpeed's", "deepspeed.launcher.runner")],
        2,
        lambda case: {case[0]},
    ),
)
def test_processes_whose_launcher_is_killed_save_their_step_and_end(folder: Path, launcher: str, killed: str) -> None:
    command = LAUNCH if launcher == "own" else DEEPSPEED
    shutil.rmtree(folder / "orphans", ignore_errors=True)
    process = start([*command, str(run_file(folder, "orphans"))], **UNCHECKED)
    checkpoints = folder / "orphans" / "checkpoints"
    wait(lambda: any(checkpoints.glob("step_*/manifest.json")))
    whole = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    next(each for each in whole if killed in each.cmdline()).kill()
    said = finish(process, limit=300)  # they have its output, so this ends as they do
    psutil.wait_procs(whole[1:], timeout=10)
    assert not [each for each in whole[1:] if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert "Traceback" not in said, said
    assert said.count("the launcher of this run is gone") == 1, said
    last = re.search(r"Stopped after step (\d+)", said)
    assert last, said
    assert (checkpoints / f"step_{int(last[1]):06d}" / "manifest.json").exists()


def started(pid: int) -> list[psutil.Process]:
    """The processes of a launch, once both are there."""
    wait(lambda: len(psutil.Process(pid).children()) == 2)
    return psutil.Process(pid).children()


def wait(condition: object, limit: float = 300) -> None:
    assert callable(condition)
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
