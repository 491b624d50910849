"""Tests run in as many processes as there are processors, each of which computes with one thread: two that want all of them wait for each other.

With more, matrix products would also sum in another order and differ in the last bits. And no test is one process of a launch, wherever it was started.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
    os.environ.pop(name, None)
