"""The most bytes that a process of a run holds in storages, while it computes gradients and while it updates weights.

As a program, `peaks.py RUN_FILES.json RESULTS` is one process of a launch, which measures one run after the other.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import attrs
import torch

from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.planner.live import LiveBytes
from ltxcore.runs.engine import build_engine, uses_zero
from ltxcore.runs.run_plan import Outline, draft, plan
from ltxcore.train.feed import Samples
from ltxcore.train.loop import Loop
from ltxcore.train.trained_model import load_model
from planner.measured import alive, sizes

CPU = torch.device("cpu")

STEPS = 2
"""An optimizer makes its state in the first step, and in the first forwards of stage 3 DeepSpeed learns which weights it will gather ahead."""


@attrs.frozen
class Peaks:
    """Bytes at the most, in forward and backward, and in an optimizer's step."""

    backward: int
    update: int

    @property
    def most(self) -> int:
        return max(self.backward, self.update)


@attrs.define(eq=False)
class Watched:
    """An engine whose steps are told apart from the forwards and backwards before them."""

    engine: Any
    live: LiveBytes
    before: int = 0
    within: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def step(self, *args: Any) -> float:
        self.before, self.live.peak = max(self.before, self.live.peak), self.live.live
        norm = float(self.engine.step(*args))
        self.within, self.live.peak = max(self.within, self.live.peak), self.live.live
        return norm


def peaks_of(found: Outline, processes: Processes) -> Peaks:
    """A few steps of the real loop and the real engine."""
    config = found.config
    planned = plan(found)
    samples = Samples(found.root, found.strategy.sources(), planned.manifest)
    for name in planned.manifest.samples:
        samples.load([name])  # into what would be host memory
    before = sizes(alive()).keys()
    model = load_model(planned, samples, CPU, divided=uses_zero(config, processes.world_size))
    watched = Watched(build_engine(config, model.backbone, model.parameters, processes, CPU), LiveBytes())
    watched.live.count(each for each in alive() if each.untyped_storage().data_ptr() not in before)
    accumulation = config.optimization.gradient_accumulation_steps
    loop = Loop(watched, model.backbone, found.strategy, samples, planned.order, config.seed, accumulation, 0)
    with watched.live:
        for _ in loop.steps(STEPS):
            pass
    return Peaks(watched.before, watched.within)


def main(run_files: Path, results: Path) -> None:
    processes, found = Processes.meet(), []
    for path in json.loads(run_files.read_text()):
        outline = draft(load_run(Path(path)), processes.world_size, writes=False).checked()
        found.append(attrs.asdict(peaks_of(outline, processes)))
    results.with_suffix(f".{processes.place.rank}").write_text(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
