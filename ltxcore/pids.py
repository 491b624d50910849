"""Processes of this machine, recognized by their number and start time, so that a later process with the same number is
not mistaken for them.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def machine() -> tuple[str, str, str]:
    """Return where the number of a process has a meaning: the name of the machine, an id of its last start, and the
    namespace in which processes are numbered, of which each container has its own. The last two are "" if the system
    does not tell them.
    """
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return socket.gethostname(), boot, space


def is_alive(pid: int, since: str) -> bool:
    """Return whether the process with this number that started at `since` is still there. A process that cannot be
    examined counts as alive.

    Args:
        pid: the number of the process.
        since: the start that `started` returned for it.
    """
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return bool(psutil.pid_exists(pid)) and started(pid) in (None, since)


def started(pid: int) -> str | None:
    """Return when a process started, in the system's own count, which distinguishes it from a later process with the
    same number. It is "" for a process that has ended and only waits for its parent to take note, and None if the
    process cannot be seen.

    Where there is /proc, the time counts from the start of the machine, so that it stays the same when the clock is
    set.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None
