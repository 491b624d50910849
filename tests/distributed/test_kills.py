"""The first of two processes killed at writes of a ZeRO-3 run: the same command goes on, to what the run would have become."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from distributed.many import UNCHECKED, finish, start
from distributed.modes import make_set, run_tables, write, zero
from interrupted import made, moments

MODE = "both, full, accumulation"
OUTPUTS = ["*.safetensors", "metrics.jsonl", "samples/*"]

HITTING = """
import os
from pathlib import Path
from hits import Hits
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


def kills(folder: Path, points: int) -> int:
    """Kill a run at so many of its writes, one run each; how many kills there were."""
    make_set(folder / "data")
    (folder / "hitting.py").write_text(HITTING)
    code, said = launched(folder, "whole", 0)
    assert code == 0, said
    events = (folder / "whole.log").read_text().splitlines()
    expected = made(folder / "whole", OUTPUTS)
    assert len(events) > 50
    chosen = list(moments(len(events), points))
    for at in chosen:
        code, said = launched(folder, f"killed{at}", at)
        assert code == 128 + signal.SIGKILL, (at, events[at - 1], code, said)
        code, said = launched(folder, f"killed{at}")
        assert code == 0 or "holds a finished run" in said, (at, events[at - 1], said)  # killed once all was done
        assert made(folder / f"killed{at}", OUTPUTS) == expected, (at, events[at - 1], said)
    return len(chosen)


@pytest.mark.slow
def test_a_zero_3_run_killed_at_some_of_its_writes_goes_on(tmp_path: Path) -> None:
    assert kills(tmp_path, 3) == 3


@pytest.mark.whole
def test_a_zero_3_run_killed_at_many_of_its_writes_goes_on(tmp_path: Path) -> None:
    assert kills(tmp_path, int(os.environ.get("LTX_KILLS", "40"))) > 20
