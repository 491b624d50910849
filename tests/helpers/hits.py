"""What a process does to a folder, counted by an audit hook of Python and by its calls of fsync; and a kill, or an error of the disk, at the n-th of it."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.utime"}

DRY = {errno.ENOSPC, errno.EDQUOT}
"""Errors of a full disk, which still lets files go away."""


class Hits:
    """Counts what is done to a folder, and acts at one moment of it."""

    def __init__(self, folder: Path, at: int, fault: str, log: Path | None = None) -> None:
        self.folder, self.at, self.log = f"{folder}/", at, log
        self.kills, self.number, self.count = fault == "kill", getattr(errno, fault, 0), 0
        self.busy = False

    def install(self) -> None:
        sync = os.fsync

        def fsync(handle: int) -> None:
            path = str(Path(f"/proc/self/fd/{handle}").readlink())
            if path.startswith(self.folder):
                self.hit("fsync", path)
            sync(handle)

        os.fsync = fsync
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or not arguments:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(mode, str) and not set(mode) & set("wax+"):
                return
            if not isinstance(mode, str) and not flags & WRITES:
                return
        elif event not in CHANGES:
            return
        path = arguments[0]
        if isinstance(path, int) or not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        inside = path.startswith(self.folder) or (not path.startswith("/") and (event != "open" or Path.cwd() == Path(self.folder)))
        if inside and not (event in ("os.remove", "os.rmdir") and self.number in DRY):
            self.hit(event, path)

    def hit(self, event: str, path: str) -> None:
        self.count += 1
        self.busy = True
        try:
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{event} {path}\n")
            if self.kills and self.count == self.at:
                if event == "fsync" and Path(path).is_file():
                    os.truncate(path, Path(path).stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            self.busy = False
        if self.number and self.at and self.count >= self.at:
            raise OSError(self.number, os.strerror(self.number), path)
