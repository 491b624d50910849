"""Files that are either whole or not there: written beside their place, synced to disk, renamed into it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".unfinished"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. At the end it takes the place of `path`; where anything is raised, nothing is left of it.

    It ends as `path` does, since what writes media goes by that.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}{UNFINISHED}{path.suffix}")
    try:
        yield beside
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # after the rename there is nothing to remove
            beside.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether there is a file; there is none of a name that the file system does not take, which `Path.is_file` raises for."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder, likewise."""
    try:
        return path.is_dir()
    except OSError:
        return False


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that whoever reads it, even after a crash, finds the old file or the new one.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    with replacing(path) as beside:
        beside.write_bytes(data)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(folder: Path, older_than: float = 3600.0) -> int:
    """Remove what killed processes left half-written under a folder, and say how many files that were.

    Args:
        folder: searched with all folders in it.
        older_than: seconds since the last write; a younger file may still be another process's.
    """
    removed = 0
    now = time.time()
    for path in folder.rglob(f".*{UNFINISHED}*"):
        with contextlib.suppress(OSError):  # another process may have renamed or removed it meanwhile
            if now - path.stat().st_mtime > older_than:
                path.unlink()
                removed += 1
    return removed
