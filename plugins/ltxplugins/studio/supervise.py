"""Run one job: start its command, record which process it is, and record how it ends.

`Jobs.start` starts `python -m ltxplugins.studio.supervise FOLDER ARGUMENTS...`. This process, and not the server, is the parent of the
command, so the exit status is known even if the server no longer runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from ltxplugins.studio.jobs import write_json

LEFT = 600.0
"""The maximum number of seconds to wait for the processes that a killed command leaves behind."""


def supervise(folder: Path, arguments: list[str]) -> None:
    """Run the command of a job, unless another process has begun it.

    Args:
        folder: the folder of the job.
        arguments: the arguments of `ltx`.
    """
    with (folder / "log").open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two servers of one folder may start a job at the same moment
        except BlockingIOError:
            return
        if not (folder / "job.json").exists() or (folder / "process.json").exists() or (folder / "end.json").exists():
            return  # it was removed, started or stopped before the lock was taken
        progress = str((folder / "progress.json").resolve())
        # A server that a script started in the background ignores SIGINT, and so would the command, which could then not be stopped.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        command = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltxcore", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LTX_PROGRESS": progress},
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        created = psutil.Process(command.pid).create_time()
        write_json(folder / "process.json", {"pid": command.pid, "created": created, "at": time.time()})
        status = command.wait()
        if status < 0:  # the processes of a killed `ltx launch` notice it, save and end; until then, they use the GPU
            psutil.wait_procs(list(left_by(progress)), timeout=LEFT)
        write_json(folder / "end.json", {"status": status, "at": time.time()})


def left_by(progress: str) -> Iterator[psutil.Process]:
    """Yield the processes of ltx that a command has started and that still run.

    Args:
        progress: the LTX_PROGRESS that the command was started with, which its processes inherit.
    """
    for process in psutil.process_iter():
        try:
            if "ltxcore" in process.cmdline() and process.environ().get("LTX_PROGRESS") == progress:
                yield process
        except psutil.Error:  # it has ended, or belongs to another user
            continue


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
