"""Run `ltx` without what Python does not have on Windows, and without DeepSpeed: `python tests/helpers/as_on_windows.py run run.toml`.

Libraries are imported before, as they are on the system that this runs on. What Windows does otherwise in compiled code or in its file system is not shown
by this.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate  # noqa: F401
import av  # noqa: F401
import diffusers  # noqa: F401
import peft  # noqa: F401
import PIL.Image  # noqa: F401
import psutil
import rich.console  # noqa: F401
import torch.distributed  # noqa: F401
import transformers  # noqa: F401

from ltxcore.cli.main import main

ABSENT = {
    os: ("fork", "getuid", "killpg", "mkfifo", "sched_getaffinity", "sysconf", "uname"),
    signal: ("SIGALRM", "SIGCONT", "SIGHUP", "SIGKILL", "SIGQUIT"),
}
MODULES = ("deepspeed", "fcntl", "grp", "pwd", "resource", "termios")


def become_windows() -> None:
    """From here on this process finds what a process on Windows finds, and no DeepSpeed."""
    for module, names in ABSENT.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.modules.update(dict.fromkeys(MODULES))
    open_one, sync, memory = os.open, os.fsync, psutil.Process.memory_info
    writable: dict[int, bool] = {}

    def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        handle = open_one(path, flags, *more, **named)
        writable[handle] = bool(flags & (os.O_RDWR | os.O_WRONLY))
        return handle

    def synced(handle: int) -> None:
        if not writable.get(handle, True):
            raise OSError(errno.EBADF, "Bad file descriptor")
        sync(handle)

    os.open, os.fsync = opened, synced
    psutil.Process.memory_info = lambda process: SimpleNamespace(peak_wset=memory(process).rss)
    sys.platform = "win32"


if __name__ == "__main__":
    become_windows()
    main()
