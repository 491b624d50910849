"""Processes of this machine, recognized by their number and start, so that a later process of the same number is not taken for them."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def machine() -> tuple[str, str, str]:
    """Return where the number of a process means something: the name of the machine; which start of it this is; and the
    space in which processes are counted, of which each container has its own. The last two are "" where the system does
    not tell.
    """
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return socket.gethostname(), boot, space


def is_alive(pid: int, since: str) -> bool:
    """Return whether the process of this number that started at `since` is there. One that cannot be looked at counts as
    alive.

    Args:
        pid: the number of the process.
        since: the start that `started` returned for it.
    """
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return bool(psutil.pid_exists(pid)) and started(pid) in (None, since)


def started(pid: int) -> str | None:
    """Return when a process started, as the system counts: another process that gets its number later differs in it. It
    is "" for one that has ended and only waits for its parent to take note, and None if it cannot be seen.

    Where there is /proc, that counts from the start of the machine, so that it stays the same when the clock is set.
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
