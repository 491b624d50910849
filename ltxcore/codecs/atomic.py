"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ltxcore.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on success it is synced to disk and takes the place of `path`, on failure it is removed.

    Its ending is that of `path`, since what writes media goes by it.

    Raises:
        DataError: the folder cannot be made, or the file cannot be written.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise DataError(
            f"this file cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="Check that the folder exists, may be written to, and has space left.",
        ) from error
    finally:
        with suppress(OSError):  # after the replace there is nothing to remove; in a folder that cannot be written, neither
            beside.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
