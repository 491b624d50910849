"""Functions that write media files so that they appear either complete or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ltxcore import files
from ltxcore.errors import DataError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file as `ltxcore.files.replacing` does, but raise errors for media files.

    Raises:
        DataError: the folder cannot be made, or the file cannot be written.
    """
    try:
        with files.replacing(path) as beside:
            yield beside
    except OSError as error:
        raise DataError(
            f"this file cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="Check that the folder exists, is writable, and has space left.",
        ) from error
