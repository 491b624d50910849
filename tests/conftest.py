"""Tests run in as many processes as there are processors, each of which computes with one thread: two that want all of them wait for each other.

With more, matrix products would also sum in another order and differ in the last bits. And no test is one process of a launch, wherever it was started, or ignores
Ctrl-C because a script started the tests in the background.
"""

from __future__ import annotations

import os
import signal

import pytest

from helpers.collecting import leave_libraries_out
from helpers.sampling import SEED

os.environ["OMP_NUM_THREADS"] = "1"
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LTX_VERBOSITY"):
    os.environ.pop(name, None)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SECONDS = {"slow": 2400, "whole": 4 * 3600}
"""Of a test that is marked so, with its fixtures; any other has the `timeout` of pyproject.toml."""


def pytest_report_header() -> str:
    return f"seed of samples: {SEED} (LTX_SAMPLE=N draws others)"


@pytest.hookimpl(trylast=True)  # of the tests that are selected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    is_whole = any(item.get_closest_marker("whole") and not item.get_closest_marker("sample") for item in items)
    for item in items:
        limit = SECONDS["whole"] if is_whole else SECONDS["slow"] if item.get_closest_marker("slow") else None
        if limit and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limit))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    leave_libraries_out()
