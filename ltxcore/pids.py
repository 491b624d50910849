"""Whether a process of this machine is the one that it was."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def machine() -> tuple[str, str, str]:
    """Where the number of a process means something: the name of the machine; which start of it this is; and in which space processes are counted, of which each
    container has one of its own. The last two are "" where the system does not tell."""
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return socket.gethostname(), boot, space


def is_alive(pid: int, since: str) -> bool:
    """Whether the process of this number that started then is there. One that cannot be looked at counts as alive.

    Args:
        pid: its number.
        since: what `started` gave for it.
    """
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return bool(psutil.pid_exists(pid)) and started(pid) in (None, since)


def started(pid: int) -> str | None:
    """When a process started, as the system counts: another process that gets its number later differs in it. "" of one that has ended and only waits for its
    parent to take note; None: that cannot be seen.

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
