"""Whether an unfinished run is the one that a run file says: the same file, on whatever number of processes, with the same global batch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import attrs
import tomli

ACCUMULATION = "gradient_accumulation_steps"


@attrs.frozen
class Difference:
    """What keeps a run from being gone on with, and what to do about it."""

    what: str
    remedy: str


def difference(saved: str, now: str, processes: tuple[int, int] = (1, 1)) -> Difference | None:
    """What differs between the run file of an unfinished run and that of now; None where one can go on with the other.

    `[engine]` and `data.verify` may differ, and so may the accumulation where the number of processes makes up for it.

    Args:
        saved: resolved run file.
        now: likewise.
        processes: then and now.
    """
    before, after = tomli.loads(saved), tomli.loads(now)
    each = _accumulation(before), _accumulation(after)
    steps = each[0] * processes[0], each[1] * processes[1]
    for run in (before, after):
        run.pop("engine", None)
        run.get("data", {}).pop("verify", None)  # what is looked at before a run changes nothing in it
        run.get("optimization", {}).pop(ACCUMULATION, None)
    if before != after:
        return Difference(
            f"of another run file:\n{changed_lines(saved, now)}",
            "Undo that to go on with it, allow it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir.",
        )
    if steps[0] == steps[1]:
        return None
    said = (
        f"that takes {steps[0]} micro-batches a step (accumulation {each[0]}, processes {processes[0]}), and here a step would take "
        f"{steps[1]} (accumulation {each[1]}, processes {processes[1]})"
    )
    if steps[0] % processes[1]:
        return Difference(said, f"Go on with a number of processes that divides {steps[0]}.")
    return Difference(said, f"Set optimization.{ACCUMULATION} to {steps[0] // processes[1]}.")


def changed_lines(saved: str, now: str) -> str:
    """The lines that differ, `-` as saved and `+` as now."""
    lines: Sequence[str] = list(difflib.unified_diff(saved.splitlines(), now.splitlines(), lineterm="", n=0))
    return "\n".join(f"    {line}" for line in lines[2:] if not line.startswith("@@"))


def _accumulation(run: dict[str, Any]) -> int:
    return int(run.get("optimization", {}).get(ACCUMULATION, 1))
