"""Tests run in as many processes as there are processors, each of which computes with one thread: two that want all of them wait for each other.

With more, matrix products would also sum in another order and differ in the last bits. And no test is one process of a launch, wherever it was started.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
    os.environ.pop(name, None)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Files that differ are told by where they begin to: pytest, where the variable CI is set, would look for hours for what two of a megabyte have in common."""
    if op != "==" or not isinstance(left, bytes) or not isinstance(right, bytes):
        return None
    same = next((number for number, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), min(len(left), len(right)))
    return [f"{len(left)} bytes == {len(right)} bytes", f"they differ from byte {same} on"]
