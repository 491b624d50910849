"""Run one job: start its command, say which process that is, and write down how it ends.

`python -m ltxplugins.studio.supervise FOLDER ARGUMENTS...` is what `Jobs.start` starts. It is the command's parent in place of the server, so
that the exit status is known also if the server is gone by then.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from ltxplugins.studio.jobs import write_json


def supervise(folder: Path, arguments: list[str]) -> None:
    with (folder / "log").open("ab") as log:
        command = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltxcore", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        write_json(folder / "process.json", {"pid": command.pid, "created": psutil.Process(command.pid).create_time(), "at": time.time()})
        status = command.wait()
    write_json(folder / "end.json", {"status": status, "at": time.time()})


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
