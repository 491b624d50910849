"""Jobs as folders on disk: they outlive the server, wait for the GPU, stop as Ctrl-C stops them, and say how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.waiting import wait
from ltxcore.api import DataError
from ltxplugins.studio.jobs import Job, Jobs, write_json
from ltxplugins.studio.screens import SCREENS
from ltxplugins.studio.studio import Studio
from ltxplugins.studio.workspace import Workspace


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "jobs", tmp_path)


def ended(job: Job) -> str:
    wait(lambda: job.state not in ("waiting", "running"))
    return job.state


def test_a_job_runs_a_command_of_ltx_and_keeps_what_it_prints(jobs: Jobs) -> None:
    job = jobs.add("check", "Its version", ["--version"])
    assert job.state == "waiting"
    assert jobs.start_next() == job
    assert ended(job) == "done"
    assert job.tail().startswith("ltx, version")
    assert job.seconds > 0


@pytest.mark.slow
def test_a_job_says_how_much_of_its_work_is_done_and_stops_also_if_its_server_ignores_ctrl_c(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.add("sample", "A tone", ["sample", "a tone", "--model", "tiny", "--inference-steps", "400", "-o", "out"])
    assert job.progress is None
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        jobs.start(job)
    finally:
        signal.signal(signal.SIGINT, before)
    wait(lambda: job.progress is not None or job.state != "running")
    assert job.progress is not None, job.tail()
    assert (job.progress.name, job.progress.steps) == ("steps", 400)
    wait(lambda: job.progress is None or job.progress.done)
    jobs.stop(job)
    assert ended(job) == "stopped"
    assert job.progress is None


def test_progress_is_shown_as_a_bar_with_its_numbers(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path), SCREENS)
    job = studio.jobs.add("check", "<b>", ["--version"])
    assert studio.text("job-progress.html", job=job).strip() == '<progress aria-label="&lt;b&gt;"></progress>'
    write_json(job.folder / "progress.json", {"name": "<i>", "done": 3, "steps": 8000})
    shown = studio.text("job-progress.html", job=job)
    assert '<progress aria-label="&lt;b&gt;" value="3" max="8000">' in shown
    assert "&lt;i&gt;: 3 of 8,000" in shown


def test_a_job_that_fails_says_why(jobs: Jobs) -> None:
    job = jobs.add("check", "A file that is not there", ["check", "nothing.toml"])
    jobs.start(job)
    assert ended(job) == "failed"
    assert "nothing.toml" in job.tail()


def test_another_server_finds_the_jobs_of_one_that_was_killed(jobs: Jobs, tmp_path: Path) -> None:
    first = jobs.add("check", "First", ["--version"], {"file": "a.toml"})
    second = jobs.add("check", "Second", ["--version"], uses_gpu=False)
    assert Jobs(tmp_path / "jobs", tmp_path).all() == [first, second]


def test_one_job_at_a_time_uses_the_gpu(jobs: Jobs) -> None:
    busy, next_, free = (jobs.add("sample", title, ["--version"], uses_gpu=title != "free") for title in ("busy", "next", "free"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        write_json(busy.folder / "process.json", told(process.pid))
        assert busy.state == "running"
        assert jobs.start_next() == free
        process.communicate(b"\n")
    write_json(busy.folder / "end.json", {"status": 0, "at": time.time()})
    assert jobs.start_next() == next_
    assert ended(next_) == "done"


def test_a_job_whose_process_is_gone_without_a_word_is_lost(jobs: Jobs) -> None:
    job = jobs.add("run", "A run", ["--version"])
    write_json(job.folder / "process.json", {**told(os.getpid()), "created": 1.0})  # the number belongs to a later process
    assert job.state == "lost"


def test_stopping_sends_what_ctrl_c_sends(jobs: Jobs) -> None:
    job = jobs.add("run", "A run", ["--version"])
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        write_json(job.folder / "process.json", told(process.pid))
        jobs.stop(job)
        assert process.wait() == -signal.SIGINT
    write_json(job.folder / "end.json", {"status": -signal.SIGINT, "at": time.time()})
    assert job.state == "stopped"


def test_a_waiting_job_that_is_stopped_never_starts(jobs: Jobs) -> None:
    job = jobs.add("run", "A run", ["--version"])
    jobs.stop(job)
    assert job.state == "stopped"
    assert jobs.start_next() is None


def test_a_half_written_file_of_a_job_is_as_none(jobs: Jobs) -> None:
    job = jobs.add("run", "A run", ["--version"])
    (job.folder / "process.json").write_text('{"pid": 1')
    assert job.state == "waiting"


def told(pid: int) -> dict[str, float]:
    import psutil

    return {"pid": pid, "created": psutil.Process(pid).create_time(), "at": time.time()}


def test_two_servers_that_start_a_job_at_the_same_moment_run_it_once(jobs: Jobs) -> None:
    job = jobs.add("check", "Its version", ["--version"])
    line = [sys.executable, "-P", "-m", "ltxplugins.studio.supervise", str(job.folder), *job.arguments]
    starts = [subprocess.Popen(line) for _ in range(3)]
    assert [start.wait() for start in starts] == [0, 0, 0]
    assert job.state == "done"
    assert job.tail().count("ltx, version") == 1


def test_the_order_of_waiting_jobs_is_kept_on_disk_and_may_be_changed(jobs: Jobs, tmp_path: Path) -> None:
    first, second, third = (jobs.add("run", title, ["--version"]) for title in ("first", "second", "third"))
    jobs.move(third, -2)
    jobs.move(first, 1)
    later = jobs.add("run", "later", ["--version"])
    again = Jobs(tmp_path / "jobs", tmp_path)
    assert again.waiting() == [third, second, first, later]
    assert again.start_next() == third
    assert ended(third) == "done"


def test_a_job_that_is_held_up_lets_the_next_pass_until_the_user_starts_it_anyway(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", tmp_path, lambda job: "needs 21 GiB, 9 GiB are free" if job.title == "large" else "")
    large, small = jobs.add("run", "large", ["--version"]), jobs.add("run", "small", ["--version"])
    assert jobs.start_next() == small
    assert jobs.held_up_by(large) == "needs 21 GiB, 9 GiB are free"
    assert ended(small) == "done"
    assert jobs.start_next() is None
    jobs.start_anyway(large)
    assert jobs.start_next() == large
    assert ended(large) == "done"


def test_a_job_is_removed_unless_it_runs(jobs: Jobs) -> None:
    waiting, running = jobs.add("run", "waiting", ["--version"]), jobs.add("run", "running", ["studio", ".", "--port", "0"])
    jobs.start(running)
    with pytest.raises(DataError, match="running is running"):
        jobs.remove(running)
    jobs.remove(waiting)
    assert jobs.all() == [running]
    assert not waiting.folder.exists()
    wait(lambda: "Ctrl-C" in running.tail())
    jobs.stop(running)
    assert ended(running) in ("stopped", "done")
    jobs.remove(running)
    assert jobs.all() == []


def test_a_job_that_was_removed_before_its_process_began_is_not_run(jobs: Jobs) -> None:
    job = jobs.add("check", "Its version", ["--version"])
    jobs.remove(job)
    job.folder.mkdir()
    supervised = [sys.executable, "-P", "-m", "ltxplugins.studio.supervise", str(job.folder), *job.arguments]
    assert subprocess.run(supervised, check=False).returncode == 0
    assert {path.name for path in job.folder.iterdir()} == {"log"}
    assert job.tail() == ""
