"""How much memory of its own a process has had at most: not the pages of files, which processes share and the system takes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Environment in which memory that is freed goes back to the system, so that what a process has is what it uses."""

OFTEN = 0.005
"""Seconds between looks."""


@attrs.define
class Peak:
    """Bytes of anonymous memory: at the beginning, and at most."""

    before: int
    most: int

    @property
    def grown(self) -> int:
        return self.most - self.before


def anonymous() -> int:
    """Bytes of this process that no file holds, in memory now (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


@contextmanager
def watched() -> Iterator[Peak]:
    """Look again and again, until the end."""
    now = anonymous()
    peak, ended = Peak(now, now), threading.Event()

    def look() -> None:
        while not ended.is_set():
            peak.most = max(peak.most, anonymous())
            time.sleep(OFTEN)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
