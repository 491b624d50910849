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
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from ltxplugins.studio.jobs import write_json


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
        command = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltxcore", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LTX_PROGRESS": str((folder / "progress.json").resolve())},
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        created = psutil.Process(command.pid).create_time()
        write_json(folder / "process.json", {"pid": command.pid, "created": created, "at": time.time()})
        status = command.wait()
        write_json(folder / "end.json", {"status": status, "at": time.time()})


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
