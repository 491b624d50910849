"""Launches of several processes, with a limit on their time and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

TESTS = Path(__file__).parents[1]
WORKER = TESTS / "distributed" / "worker.py"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "GLOO_SOCKET_IFNAME": "lo",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
}

CHECKED, UNCHECKED = ({"TORCH_DISTRIBUTED_DEBUG": level} for level in ("DETAIL", "OFF"))
"""For runs in which every process does the same: to check each message against the other process's takes longer than the message itself."""


def environment(**more: str) -> dict[str, str]:
    """This process's, without what a launcher would have said in it."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, **ENVIRONMENT, **more}


def torchrun(processes: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *arguments]


def start(command: Sequence[str], **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], limit: float) -> str:
    """What it said, once it has ended; ends it and all of its processes where it takes longer than `limit` seconds."""
    try:
        return process.communicate(timeout=limit)[0]
    except subprocess.TimeoutExpired:
        children = psutil.Process(process.pid).children(recursive=True)  # in sessions of their own: they do not end with it
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(children, timeout=10)
        for child in left:
            child.kill()
        process.kill()
        raise AssertionError(f"it took longer than {limit} s, and had said:\n{process.communicate()[0]}") from None


Results = list[list[dict[str, Any]]]
"""What became of each job of a launch, by process."""


def run_jobs(folder: Path, jobs: Sequence[Mapping[str, Any]], processes: int, limit: float = 1200, **more: str) -> Results:
    """Run several run files in one launch, with `more` in its environment."""
    (found,) = run_launches(folder, [(processes, jobs)], limit, **more)
    return found


def run_launches(
    folder: Path, launches: Sequence[tuple[int, Sequence[Mapping[str, Any]]]], limit: float = 1200, **more: str
) -> list[Results]:
    """Launches, of each how many processes it has and its jobs, one after the other; libraries are imported once for all of them."""
    path = Path(tempfile.mkdtemp(prefix="jobs", dir=folder)) / "launches.json"
    asked = [
        {"processes": processes, "jobs": [{"settings": [], **job, "run": str(job["run"])} for job in jobs]} for processes, jobs in launches
    ]
    path.write_text(json.dumps(asked))
    process = start([sys.executable, str(WORKER), str(path)], **more)
    said = finish(process, limit)
    assert process.returncode == 0, said
    return [
        [json.loads(path.with_suffix(f".{number}.{rank}.results").read_text()) for rank in range(processes)]
        for number, (processes, _) in enumerate(launches)
    ]
