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

MOST = 1.5
"""Times the processor time of `import torch` that a check may take."""

MOST_OF_MANY = 2.0
"""The same for a dataset of 20,000 rows."""


def cpu(folder: Path, *arguments: str) -> float:
    """The seconds of processor that a Python takes, with its modules compiled, as they are once they were used."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
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
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_of(folder: Path, rows: int) -> Path:
    """A run file beside a dataset of so many clips, which are links to one."""
    (folder / "clips").mkdir(parents=True)
    clip_file(folder / "one.mp4", frames=17)
    with (folder / "clips.jsonl").open("w") as file:
        for number in range(rows):
            os.link(folder / "one.mp4", folder / "clips" / f"{number}.mp4")
            file.write(json.dumps({"video": f"clips/{number}.mp4", "caption": f"clip {number}"}) + "\n")
    return raw_run(folder, "clips.jsonl")


@pytest.mark.slow
def test_a_check_takes_little_more_of_a_processor_than_importing_torch_also_of_many_rows(tmp_path: Path) -> None:
    few, many = (run_of(tmp_path / str(rows), rows) for rows in (120, 20_000))
    commands = [("-c", "import torch"), *(("-m", "ltxcore", "check", str(run)) for run in (few, many))]
    taken = [[cpu(tmp_path, *command) for command in commands] for _ in range(3)]  # in turn, since a machine's speed drifts
    torch, of_few, of_many = (min(each) for each in zip(*taken, strict=True))
    assert of_few <= MOST * torch
    assert of_many <= MOST_OF_MANY * torch
