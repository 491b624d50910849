"""Tests run in as many processes as there are processors, each of which computes with one thread: two that want all of them wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
