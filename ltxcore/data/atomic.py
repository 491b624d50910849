"""Files that are either whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

UNFINISHED = ".unfinished"


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that whoever reads it, even after a crash, finds the old file or the new one.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{UNFINISHED}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def remove_unfinished(folder: Path, older_than: float = 3600.0) -> int:
    """Remove what killed processes left half-written under a folder, and say how many files that were.

    Args:
        folder: searched with all folders in it.
        older_than: seconds since the last write; a younger file may still be another process's.
    """
    removed = 0
    now = time.time()
    for path in folder.rglob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):  # another process may have renamed or removed it meanwhile
            if now - path.stat().st_mtime > older_than:
                path.unlink()
                removed += 1
    return removed
