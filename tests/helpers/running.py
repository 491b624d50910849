"""The `ltx` program, run in this process from a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from click.testing import CliRunner

from ltxcore.cli.main import main


def run_ltx(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command in a folder; its exit status, output and messages."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr
