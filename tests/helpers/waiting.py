"""Wait for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait(until: Callable[[], object]) -> None:
    """Return once `until` returns something true; a busy machine may take minutes."""
    for _ in range(3000):
        if until():
            return
        time.sleep(0.05)
    raise AssertionError("what was waited for did not come to pass")
