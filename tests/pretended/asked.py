"""Checks on the pretended device, asked of a process of their own: the device must be there before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from pretended.library import build

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent


@attrs.frozen
class Check:
    """A function of a module of tests and its arguments, which like its result are JSON."""

    name: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)


def answers(checks: Mapping[str, Check], libraries: Path) -> dict[str, Any]:
    """What each check returned; one process does them all, in order, since it starts slowly.

    Args:
        checks: by a name of the caller's.
        libraries: a folder that keeps the built library.

    Raises:
        AssertionError: a check failed; with its traceback.
    """
    paths = os.pathsep.join([str(TESTS), str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "asked.json", Path(folder) / "found.json"
        asked.write_text(json.dumps({name: {"check": check.name, "arguments": dict(check.arguments)} for name, check in checks.items()}))
        command = [sys.executable, "-m", "pretended.child", str(build(libraries)), str(asked), str(found)]
        ended = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        results = json.loads(found.read_text()) if found.exists() else {}
    assert ended.returncode == 0, f"the process ended with {ended.returncode}, after {len(results)} checks:\n{ended.stderr}"
    failed = [f"{name}:\n{result['error']}" for name, result in results.items() if result["error"]]
    assert not failed, "\n".join(failed)
    for name, result in results.items():
        print(f"{name}: {result['seconds']} s")  # noqa: T201
    return {name: result["value"] for name, result in results.items()}
