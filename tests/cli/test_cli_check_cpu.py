"""How much of a processor `ltx check` takes, beside what importing torch takes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cli.test_cli_check import raw_run
from helpers.raw_media import clip_file

MOST = 1.7
"""Times the processor time of `import torch` that a check may take; 1.4 to 1.5 are measured, and machines are noisy."""


def cpu(folder: Path, *arguments: str) -> float:
    """The least seconds of processor that a Python takes in three runs, with its modules compiled, as they are once they were used."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.slow
def test_a_check_takes_little_more_of_a_processor_than_importing_torch(tmp_path: Path) -> None:
    clip_file(tmp_path / "one.mp4", frames=17)
    (tmp_path / "clips").mkdir()
    with (tmp_path / "clips.jsonl").open("w") as file:
        for number in range(120):
            os.link(tmp_path / "one.mp4", tmp_path / "clips" / f"{number}.mp4")
            file.write(json.dumps({"video": f"clips/{number}.mp4", "caption": f"clip {number}"}) + "\n")
    run = raw_run(tmp_path, "clips.jsonl")
    assert cpu(tmp_path, "-m", "ltxcore", "check", str(run)) <= MOST * cpu(tmp_path, "-c", "import torch")
