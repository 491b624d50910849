"""Ask whether the GPU has enough free memory for a run before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ltxplugins.studio.jobs import Job, read_json, write_json
from ltxplugins.studio.programs import answer
from ltxplugins.studio.studio import Studio

GIB = 2**30
AGAIN = 20.0
"""The number of seconds after which the free memory is measured again."""

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Files that are there if the system has a driver for GPUs that torch computes on: of NVIDIA, of AMD, and of WSL."""

ASK = "import json, torch; print(json.dumps([torch.cuda.mem_get_info(each)[0] for each in range(torch.cuda.device_count())]))"
"""Asked in a process of its own, since torch keeps some memory of a GPU for as long as its process lives. It knows which GPUs a run sees."""


def free_memory() -> list[int]:
    """Return the free bytes of each GPU; empty if there is none, or if it does not answer."""
    if not any(Path(path).exists() for path in DRIVERS):
        return []
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", ASK], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True
        )
        return [int(each) for each in json.loads(asked.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


class GpuMemory:
    """What runs need, and what is free.

    Args:
        studio: the studio whose jobs wait for memory.
        free: a function that returns the free bytes of each GPU.
    """

    def __init__(self, studio: Studio, free: Callable[[], Sequence[int]] = free_memory) -> None:
        self.studio, self.free = studio, free
        self._asked: tuple[str, float, Sequence[int]] = ("", 0.0, ())
        self._computing: set[str] = set()

    def holds_up(self, job: Job) -> str:
        """Return why a run cannot start yet, as text for the user; "" if it can, or if nothing is known against it."""
        if job.kind != "run":
            return ""
        id, at, free = self._asked
        if id != job.id or time.monotonic() - at > AGAIN:
            free = self.free()
            self._asked = job.id, time.monotonic(), free
        if not free:
            return ""
        told = read_json(job.folder / "need.json")
        if not told:
            self._compute(job)
            return "how much memory it needs is being computed"
        need, least = told.get("bytes", 0), min(free[: gpus_of(job)])
        if need <= least:
            return ""
        where = "are free" if len(free[: gpus_of(job)]) == 1 else "are free on the fullest of its GPUs"
        return f"needs {need / GIB:.3g} GiB, {least / GIB:.3g} GiB {where}"

    def _compute(self, job: Job) -> None:
        if job.id not in self._computing:
            self._computing.add(job.id)
            threading.Thread(target=self._write_need, args=(job,), daemon=True).start()

    def _write_need(self, job: Job) -> None:
        """Ask the planner. A run that it cannot plan may start, and says itself what is wrong."""
        asked = answer(self.studio, ["plan", str(job.about.get("run_file", "")), "--gpus", str(gpus_of(job)), "--json"], 600)
        try:
            need: dict[str, object] = {"bytes": int(json.loads(asked.text)["gpu_peak_with_margin"])}
        except (ValueError, KeyError, TypeError):
            need = {"why": asked.errors[-2000:] or "`ltx plan` gave no answer."}
        if job.folder.exists():
            write_json(job.folder / "need.json", need)


def gpus_of(job: Job) -> int:
    """Return how many GPUs a run takes."""
    number = job.about.get("gpus", 1)
    return number if isinstance(number, int) and number > 0 else 1
