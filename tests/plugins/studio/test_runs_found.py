"""What the screen of the runs says, without a browser: runs of the folder, memory of the GPU, why a job failed, and a killed server."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from helpers.made_run import made_run
from helpers.training_runs import sound_set, tables, write_run
from helpers.waiting import wait
from ltxcore.writer import writing
from ltxplugins.studio.jobs import Jobs, write_json
from ltxplugins.studio.runs.found import Library
from ltxplugins.studio.runs.gpu_memory import GIB, GpuMemory
from ltxplugins.studio.runs.told import end_of, error_in
from ltxplugins.studio.screens import SCREENS
from ltxplugins.studio.studio import Studio
from ltxplugins.studio.workspace import Workspace

TOKEN = "a-token-of-the-tests"


def test_runs_that_the_studio_did_not_start_are_found_with_their_state(tmp_path: Path) -> None:
    made_run(tmp_path / "a" / "finished")
    made_run(tmp_path / "a" / "killed", status="running")
    made_run(tmp_path / ".hidden" / "run")
    before = sorted(path for path in tmp_path.rglob("*"))
    library = Library(Workspace(tmp_path))
    assert {glance.name: glance.state for glance in library.glances()} == {"a/finished": "finished", "a/killed": "broken off"}
    assert sorted(path for path in tmp_path.rglob("*")) == before
    with writing(tmp_path / "a" / "killed"):
        glance = library.glance("a/killed")
        assert (glance.state, glance.step, glance.total) == ("running", 200, 200)
        assert str(os.getpid()) in glance.writer


def test_a_run_waits_while_less_memory_is_free_than_it_needs(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path), SCREENS)
    free = [9 * GIB]
    memory = GpuMemory(studio, lambda: free)
    job = studio.jobs.add("run", "large", ["run", "run.toml"], {"run_file": "run.toml", "gpus": 1})
    write_json(job.folder / "need.json", {"bytes": 21 * GIB})
    assert memory.holds_up(job) == "needs 21 GiB, 9 GiB are free"
    assert GpuMemory(studio, lambda: [24 * GIB]).holds_up(job) == ""
    assert GpuMemory(studio, list).holds_up(job) == ""  # there is no GPU
    assert memory.holds_up(studio.jobs.add("export", "small", ["export"])) == ""


@pytest.mark.slow
def test_what_a_run_needs_is_asked_of_the_planner(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", 8)
    write_run(tmp_path, tables(tmp_path / "data", Path("out")))
    studio = Studio(Workspace(tmp_path), SCREENS)
    memory = GpuMemory(studio, lambda: [1])
    job = studio.jobs.add("run", "tiny", ["run", "run.toml"], {"run_file": "run.toml"})
    assert memory.holds_up(job) == "how much memory it needs is being computed"
    wait((job.folder / "need.json").exists)
    assert memory.holds_up(job).startswith("needs ")
    assert memory.holds_up(job).endswith(" GiB are free")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            ["step 1", "run.toml:3: steps: is not a number", "    Write a whole number."],
            ("run.toml:3: steps: is not a number", "    Write a whole number."),
        ),
        (["step 1", "Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: <b>no</b>"], ("ValueError: <b>no</b>",)),
        (["memory ran out in `ltx run`: 8 GiB", ""], ("memory ran out in `ltx run`: 8 GiB",)),
        ([], ()),
    ],
)
def test_the_error_is_taken_from_the_end_of_the_log(log: list[str], said: tuple[str, ...]) -> None:
    assert error_in(log) == said


def test_a_process_that_was_killed_is_said_to_have_run_out_of_memory_or_to_be_gone(tmp_path: Path) -> None:
    job = Jobs(tmp_path / "jobs", tmp_path).add("run", "A run", ["run"])
    write_json(job.folder / "end.json", {"status": -signal.SIGKILL, "at": 1.0})
    end, gone = end_of(job, "failed"), end_of(job, "lost")
    assert end is not None
    assert gone is not None
    assert "memory runs out" in end.what
    assert "Resume" in gone.remedy
    assert end_of(job, "done") is None


def test_the_process_of_a_launch_that_was_killed_is_named_as_the_launch_names_it(tmp_path: Path) -> None:
    job = Jobs(tmp_path / "jobs", tmp_path).add("run", "A run", ["launch"])
    told = (
        "process 1 was killed by signal 9 (SIGKILL), so this run ends",
        "    The same command resumes after step 4, the last one saved.",
    )
    job.log.write_text("\n".join(["training in 2 processes", *told, ""]))
    write_json(job.folder / "end.json", {"status": 128 + signal.SIGKILL, "at": 1.0})
    end = end_of(job, "failed")
    assert end is not None
    assert end.lines == told


def test_a_run_outlives_a_server_that_is_killed_and_the_next_server_sees_it_finish(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", 8)
    table = tables(tmp_path / "data", Path("out"), optimization={"steps": 20, "batch_size": 2})
    table["validation"] = {"inference_steps": 2, "interval": 0, "samples": []}
    write_run(tmp_path, table)
    jobs = Jobs(tmp_path / ".studio" / "jobs", tmp_path)
    first, address = server(tmp_path)
    try:
        ask(address, "/runs/add", file="run.toml", gpus="1")
        wait(lambda: [job.state for job in jobs.all()] == ["running"])
    finally:
        first.kill()
        first.communicate()
    second, address = server(tmp_path)
    try:
        (job,) = jobs.all()
        assert job.state == "running"
        wait(lambda: job.state != "running")
        assert job.state == "done"
        assert "finished" in ask(address, "/runs/list")
        assert "step 20 of 20" in ask(address, "/runs/facts?run=out")
    finally:
        second.kill()
        second.communicate()


def server(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "ltxcore", "studio", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "LTX_STUDIO_TOKEN": TOKEN})
    assert process.stdout is not None
    return process, urlsplit(process.stdout.readline().split()[-1]).netloc


def ask(address: str, path: str, **fields: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=120)
    headers = {"cookie": f"ltx_studio_{address.rpartition(':')[2]}={TOKEN}", "origin": f"http://{address}", "x-part": "1"}
    connection.request("POST" if fields else "GET", path, urlencode(fields) if fields else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    connection.close()
    return text
