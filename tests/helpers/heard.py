"""What the program would tell beside its results."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ltxcore.logs import LOGGER


@contextmanager
def heard() -> Iterator[io.StringIO]:
    """Notes and warnings, a line each."""
    said, level = io.StringIO(), LOGGER.level
    handler = logging.StreamHandler(said)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield said
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
