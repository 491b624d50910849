"""A test that hangs is ended, and the others go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HANGING = """
import threading

from ltxcore.engines.signals import listening


def test_that_hangs_inside_a_run():
    with listening():
        threading.Event().wait()


def test_that_comes_after_it():
    pass
"""


def test_a_test_that_hangs_inside_a_run_which_takes_signals_as_a_wish_to_save_is_ended_and_the_next_one_is_run(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    configuration = Path(__file__).parents[1] / "pyproject.toml"
    command = [sys.executable, "-m", "pytest", "-c", configuration, "-n", "0", "-p", "no:cacheprovider", "-o", "timeout=1", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "test_that_hangs_inside_a_run" in done.stdout
    assert "Timeout (>1.0s)" in done.stdout
