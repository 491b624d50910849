"""Recognize processes of this machine by their number and start time, so that a later process with the same number is
not mistaken for an earlier one.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def machine() -> tuple[str, str, str]:
    """Return where process numbers are valid: the name of the machine, an id of its last start, and the namespace that
    numbers processes (each container has its own). The id and the namespace are "" if the system does not tell them.
    """
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return socket.gethostname(), boot, space


def is_alive(pid: int, since: str) -> bool:
    """Return whether the process with this number and the start time `since` still exists. A process that cannot be
    examined counts as alive.

    Args:
        pid: the number of the process.
        since: the start time that `started` returned for the process.
    """
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return bool(psutil.pid_exists(pid)) and started(pid) in (None, since)


def started(pid: int) -> str | None:
    """Return the start time of a process in the system's own units; it distinguishes the process from a later one with
    the same number. Return "" for a process that has ended and whose parent has not noticed it yet, and None for a
    process that cannot be seen.

    On systems with /proc, the time counts from the start of the machine, so that it does not change when the clock is
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
