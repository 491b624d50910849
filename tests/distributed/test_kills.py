"""The first of two processes killed at writes of a ZeRO-3 run: the same command goes on, to what the run would have become."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.interrupted import made
from helpers.launches import UNCHECKED, finish, start
from helpers.sampling import drawn, sampled

MODE = "both, full, accumulation"
OUTPUTS = ["*.safetensors", "metrics.jsonl", "samples/*"]

HITTING = """
import os
from pathlib import Path
from helpers.hits import Hits
from ltxcore.api import hookimpl

at = os.environ.pop("HIT_AT", "") if os.environ.get("RANK") == "0" else ""
if at:
    Hits(Path(os.environ["HIT_FOLDER"]), int(at), "kill", Path(os.environ["HIT_LOG"])).install()


@hookimpl
def ltx_trackers():
    return {}
"""
"""A plugin that kills its process at a write; the run files of all runs name it, so that they differ in nothing."""


def launched(folder: Path, name: str, at: int | None = None) -> tuple[int, str]:
    """Exit status of a run of two processes, and what it said."""
    path = folder / f"{name}.toml"
    if not path.exists():
        tables = run_tables(MODE, folder / "data", folder / name, engine=zero(folder, 3), checkpoints={"interval": 1, "keep_last_n": 1})
        tables["optimization"] = {**tables["optimization"], "steps": 3}
        tables["plugins"] = [*tables.get("plugins", []), str(folder / "hitting.py")]
        path = write(folder, name, tables)
    hit = {} if at is None else {"HIT_AT": str(at), "HIT_FOLDER": str(folder / name), "HIT_LOG": str(folder / f"{name}.log")}
    process = start([sys.executable, "-m", "ltxcore", "launch", "--num-gpus", "2", str(path)], **UNCHECKED, **hit)
    said = finish(process, 600)
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("points", sampled([1, 40], 0, lambda points: {"some"} if points < 40 else ()))
def test_a_zero_3_run_killed_at_its_writes_goes_on(tmp_path: Path, points: int) -> None:
    make_set(tmp_path / "data")
    (tmp_path / "hitting.py").write_text(HITTING)
    code, said = launched(tmp_path, "whole", 0)
    assert code == 0, said
    events = (tmp_path / "whole.log").read_text().splitlines()
    expected = made(tmp_path / "whole", OUTPUTS)
    assert len(events) > 50
    for at in drawn(range(1, len(events) + 1), points):
        code, said = launched(tmp_path, f"killed{at}", at)
        assert code == 128 + signal.SIGKILL, (at, events[at - 1], code, said)
        code, said = launched(tmp_path, f"killed{at}")
        assert code == 0 or "holds a finished run" in said, (at, events[at - 1], said)  # killed once all was done
        assert made(tmp_path / f"killed{at}", OUTPUTS) == expected, (at, events[at - 1], said)
