"""The things in tests/made_by_0_1_0, brought to another folder as to another machine; and the commands of this version on them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from click.testing import CliRunner

from ltxcore.cli.main import main

MADE = Path(__file__).parents[1] / "made_by_0_1_0"
THERE = "/home/somebody/films"
"""Where 0.1.0 made them, which its run files, run.json and the memories of raw files name."""

TEXT = (".toml", ".json", ".jsonl", ".html")


def brought(folder: Path) -> Path:
    """A copy of everything in `folder`, whose text files name that folder in place of the one where it was made."""
    shutil.copytree(MADE, folder, ignore=shutil.ignore_patterns("conftest.py", "__pycache__", "make.py", "README.md"))
    for path in folder.rglob("*"):
        # What a checkpoint's manifest has a hash of names no path.
        if path.suffix in TEXT and THERE in (text := path.read_text()):
            path.write_text(text.replace(THERE, str(folder)))
    return folder


def ltx(folder: Path, *arguments: object, status: int = 0) -> str:
    """What a command says in a folder, on both streams; it ends with `status`."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.output
