"""Tests run in as many processes as there are processors, each of which computes with one thread: two that want all of them wait for each other.

With more, matrix products would also sum in another order and differ in the last bits. And no test is one process of a launch, wherever it was started.
"""

from __future__ import annotations

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
    os.environ.pop(name, None)

LIMITS = {"whole": 4 * 3600, "slow": 1200}
"""Seconds of a test that is marked so, with its fixtures; any other has the `timeout` of pyproject.toml."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        limit = next((limit for mark, limit in LIMITS.items() if item.get_closest_marker(mark)), None)
        if limit and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limit))
