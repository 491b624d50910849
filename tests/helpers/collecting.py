"""What garbage collection leaves out in tests: libraries are a million objects, which each run would look through several times."""

from __future__ import annotations

import gc
import sys

_imported = 0


def leave_libraries_out() -> None:
    """Leave out what is there now, where many modules have been imported since the last time."""
    global _imported
    if len(sys.modules) > _imported + 50:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)
