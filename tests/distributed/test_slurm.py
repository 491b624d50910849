"""The scripts of docs/how-to/slurm.md, with programs in place of SLURM's: two tasks on the CPU, a stop, and a second turn. About a minute on free cores."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import environment, finish
from helpers.raw_media import clip_file, dataset_file

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "slurm.md"
TASKS = 2
DATA = {"held_out": 0}

SRUN = f"""\
#!{sys.executable}
import os, subprocess, sys
tasks = [
    subprocess.Popen(sys.argv[1:], env=dict(os.environ, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NODEID=str(rank)))
    for rank in range(int(os.environ["SLURM_NTASKS"]))
]
sys.exit(max(task.wait() for task in tasks))
"""

SCONTROL = """\
#!/bin/sh
case "$1 $2" in
    "show hostnames") printf '%s\\n' localhost 127.0.0.1 ;;
    *) echo "$@" >> "$SLURM_ASKED" ;;
esac
"""


def scripts() -> list[str]:
    """The sbatch scripts of the page: to train, to train by `ltx launch`, to encode."""
    return re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SLURM's programs in `bin`, and `ltx` beside them."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "bin").mkdir()
    ltx = f'#!/bin/sh\nexec {sys.executable} -m ltxcore "$@"\n'
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "ltx": ltx}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


def sbatch(folder: Path, script: str, **more: str) -> subprocess.Popen[str]:
    """A turn of the job, of a script of its own: bash reads as it goes, so that a turn beside it must not write over what it reads."""
    path = Path(tempfile.mkdtemp(prefix="turn", dir=folder)) / "job.sh"
    path.write_text(script)
    said = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "pretended", "SLURM_NTASKS": str(TASKS), "SLURM_GPUS_ON_NODE": "1"}
    told = {"SLURM_ASKED": str(folder / "asked"), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(
        ["bash", str(path)],
        cwd=folder,
        env=environment(**said, **told, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def tasks_of(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """What SLURM signals: the processes that srun started."""
    (srun,) = psutil.Process(job.pid).children()
    return srun.children()


def test_a_job_that_is_asked_to_stop_saves_is_queued_again_and_goes_on_to_its_end(slurm: Path) -> None:
    make_set(slurm / "data")
    optimization = {"steps": 30, "batch_size": 2}
    write(
        slurm,
        "run",
        run_tables("audio_inpainting", slurm / "data", slurm / "out", optimization=optimization, engine=zero(slurm, 2), data=DATA),
    )
    train = scripts()[0]
    job = sbatch(slurm, train)
    deadline = time.monotonic() + 400
    metrics = slurm / "out" / "metrics.jsonl"
    while job.poll() is None and time.monotonic() < deadline and not (metrics.exists() and len(losses(metrics)) >= 2):
        time.sleep(0.1)
    assert job.poll() is None, job.communicate()[0]
    for task in tasks_of(job):
        task.send_signal(signal.SIGTERM)
    said = finish(job, 400)
    assert job.returncode == 130, said
    assert said.count("Stopped after step") == 1, said
    assert (slurm / "asked").read_text() == f"requeue {os.getpid()}\n"
    stopped = len(losses(metrics))
    assert 2 <= stopped < 30

    again = sbatch(slurm, train)
    said = finish(again, 400)
    assert again.returncode == 0, said
    assert f"resuming after step {stopped}" in said
    assert "in 2 processes" in said
    assert said.count("Done, 30 steps.") == 1, said
    assert len(losses(metrics)) == 30
    assert (slurm / "asked").read_text().count("requeue") == 1


def losses(metrics: Path) -> list[float]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_launch_on_each_machine_trains_with_the_hosts_of_the_job(slurm: Path) -> None:
    make_set(slurm / "data")
    path = write(
        slurm,
        "run",
        run_tables("audio_inpainting", slurm / "data", slurm / "launched", optimization={"steps": 2, "batch_size": 2}, data=DATA),
    )
    assert path == slurm / "run.toml"
    job = sbatch(slurm, scripts()[1])
    said = finish(job, 400)
    assert job.returncode == 0, said
    assert said.count("Done, 2 steps.") == 1, said
    assert (slurm / f"hosts.{os.getpid()}").read_text() == "localhost slots=1\n127.0.0.1 slots=1\n"


def test_tasks_of_an_array_share_the_work_of_encoding(slurm: Path) -> None:
    rows = []
    for index in range(5):
        clip_file(slurm / f"clips/{index}.mp4", seed=index)
        rows.append({"video": f"clips/{index}.mp4", "caption": f"clip number {index}"})
    dataset_file(slurm / "clips.jsonl", rows)
    script = scripts()[2]
    for real, tiny in {
        "/models/ltx-2.3-22b-dev.safetensors": "tiny",
        "--text-encoder-path /models/gemma-3-12b": "",
        "768x448x89": "64x64x17",
    }.items():
        assert real in script
        script = script.replace(real, tiny)
    made = []
    for job in [sbatch(slurm, script, SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT=str(TASKS)) for task in range(TASKS)]:
        said = finish(job, 200)
        assert job.returncode == 0, said
        assert "5 samples in" in said, said
        made.append(int(re.search(r"^latents +(\d+) made", said, re.MULTILINE)[1]))  # type: ignore[index]
    assert sum(made) == 5
    assert len(list((slurm / ".precomputed" / "latents").rglob("*.safetensors"))) == 5
