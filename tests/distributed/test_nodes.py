"""A run on two machines, pretended on this one, of which one is lost: the other tells, ends after the last checkpoint, and both go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from distributed.test_ends import run_file, wait
from helpers.engine_modes import make_set
from helpers.launches import UNCHECKED, finish, start
from ltxcore.engines.launcher import free_port
from ltxcore.runs.checkpoint import found
from ltxcore.writer import STALE, file_name

pytestmark = pytest.mark.slow

Nodes = list[subprocess.Popen[str]]


def torchrun(rank: int, port: int, folder: Path) -> list[str]:
    place = ["--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    return [sys.executable, "-m", "torch.distributed.run", *place, "-m", "ltxcore", "run"]


def launch(rank: int, port: int, folder: Path) -> list[str]:
    """By a hostfile that has this machine twice, by two of its names."""
    hosts = folder / "hosts"
    hosts.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    place = ["--hostfile", str(hosts), "--node-rank", str(rank), "--master-port", str(port)]
    return [sys.executable, "-m", "ltxcore", "launch", *place]


def started(command: Callable[[int, int, Path], list[str]], folder: Path, run: Path) -> Nodes:
    port = free_port()
    return [start([*command(rank, port, folder), str(run)], **UNCHECKED) for rank in (0, 1)]


def lost(nodes: Nodes, which: int) -> str:
    """What the other machine says when this one is gone, with its launcher and its process at once."""
    children = psutil.Process(nodes[which].pid).children(recursive=True)
    for each in (nodes[which], *children):
        each.send_signal(signal.SIGKILL)
    said = finish(nodes[1 - which], limit=120)
    assert nodes[1 - which].returncode != 0, said
    finish(nodes[which], limit=10)
    return said


def last(output: Path) -> int:
    """The step that was saved last; 0: none."""
    saved = found(output / "checkpoints")
    return saved[-1].step if saved else 0


def written_elsewhere(output: Path, seconds: float) -> None:
    """Make the first process one of another machine, which was heard of so many seconds ago."""
    path = output / file_name()
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "node7", "boot": "another"}))
    heard = path.stat().st_mtime - seconds
    os.utime(path, (heard, heard))


def test_a_run_on_two_machines_goes_on_after_either_of_them_is_lost(tmp_path: Path) -> None:
    make_set(tmp_path / "data")
    run = run_file(tmp_path, "nodes")
    output = tmp_path / "nodes"

    nodes = started(torchrun, tmp_path, run)
    wait(lambda: last(output))
    said = lost(nodes, 1)
    assert said.count("process 1 of 2 ended without a message (it was killed, or ran out of memory), so this run ends") == 1, said
    first = last(output)
    assert said.count(f"The same command resumes after step {first}, the last one saved.") == 1, said

    nodes = started(launch, tmp_path, run)
    wait(lambda: last(output) > first)
    said = lost(nodes, 0)
    assert said.count("process 0 of 2 ended without a message (it was killed, or ran out of memory), so this run ends") == 1, said
    second = last(output)
    assert said.count(f"The same command resumes after step {second}, the last one saved.") == 1, said

    written_elsewhere(output, 0)  # what the machine that was lost left there, as another one sees it
    nodes = started(launch, tmp_path, run)
    told = [finish(node, limit=300) for node in nodes]
    assert [node.returncode for node in nodes] == [2, 2], told
    assert re.search(r"is being written by process \d+ on node7, since .*, which last showed a sign of life \d+ seconds ago\n", told[0]), (
        told
    )
    assert "--take-over" in told[0]
    assert "Traceback" not in "".join(told)
    assert last(output) == second

    written_elsewhere(output, STALE)
    nodes = started(launch, tmp_path, run)
    wait(lambda: last(output) > second)
    nodes[1].send_signal(signal.SIGTERM)
    told = [finish(node, limit=300) for node in nodes]
    assert [node.returncode for node in nodes] == [130, 130], told
    assert f"resuming after step {second}" in told[0], told
    same = f"The same command resumes after step {last(output)}, the last one saved."
    assert f"Stopped after step {last(output)}.\n  {same}" in told[0], told  # `ltx launch --num-gpus 2` would start both processes here
