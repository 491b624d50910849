"""Ask other commands of ltx short questions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import attrs

from ltxplugins.studio.studio import Studio


@attrs.frozen
class Answer:
    """What a command answered: its exit status, what it printed, and what it printed on the error stream."""

    status: int
    text: str
    errors: str


def answer(studio: Studio, arguments: Sequence[str], timeout: float = 120) -> Answer:
    """Run a command of ltx in the opened folder, and return its answer.

    Args:
        studio: the studio.
        arguments: the arguments of `ltx`.
        timeout: the seconds after which the command is killed; its exit status is then 124.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ltxcore", *arguments],
            cwd=studio.workspace.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"`ltx {arguments[0]}` did not answer within {timeout:g} seconds.")
    return Answer(done.returncode, done.stdout, done.stderr)
