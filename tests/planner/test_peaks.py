"""The peaks that `ltx plan` states, beside those of live storages: a table of engines, number formats and sizes, on a model of 30M parameters.

Every cell is within a tenth, in forward and backward as well as in the optimizer's step. Not in the table are quantized weights in several processes, which are
refused; more than two processes; and what a CPU cannot show: memory that the kernels of a GPU take for themselves, and what is moved to host memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.launches import UNCHECKED, finish, start, torchrun
from helpers.sampling import asked, sampled
from ltxcore.engines.process import Processes
from ltxcore.planner.estimate import Need
from planner.large import large_run, write_large
from planner.peaks import Peaks, peaks_of
from planner.test_estimate import predicted

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("peaks.py")
LORA = {"rank": 16, "alpha": 16, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"]}
BUCKET = 5_000_000
"""Numbers that are reduced together, more than a matrix has and fewer than the model, as DeepSpeed's 500 million are for LTX-2.3."""

IN_A_LAUNCH = 8
"""Cells that one launch measures; DeepSpeed lets go of nothing before a process ends."""


@attrs.frozen
class Cell:
    """A run of the table; stage 0 is one process, and two processes have the others."""

    stage: int
    mode: str
    precision: str
    stored: str | None
    batch_size: int
    checkpointing: bool
    accumulation: int

    def __str__(self) -> str:
        stored = "" if self.stored is None else f"-{self.stored}"
        again, added = "-checkpointed" * self.checkpointing, f"-{self.accumulation} micro-batches" * (self.accumulation > 1)
        return f"stage {self.stage}-{self.mode}-{self.precision}{stored}-{self.batch_size} at a time{again}{added}"

    def kinds(self) -> Iterator[object]:
        """What the cells that every run of the tests takes show."""
        yield from (self.stage, self.mode, self.precision, ("at a time", self.batch_size), ("micro-batches", self.accumulation))

    def write(self, folder: Path) -> Path:
        """Write the run file."""
        tables: dict[str, Any] = {
            "model": {"training_mode": self.mode},
            "optimization": {
                "batch_size": self.batch_size,
                "enable_gradient_checkpointing": self.checkpointing,
                "gradient_accumulation_steps": self.accumulation,
            },
            "acceleration": {"mixed_precision_mode": self.precision},
        }
        if self.mode == "lora":
            tables["lora"] = LORA
        if self.stored == "rounded":
            tables["acceleration"]["stochastic_rounding"] = True
        elif self.stored is not None:
            tables["acceleration"]["quantization"] = self.stored
        if self.stage:
            deepspeed = folder / f"ds_{self.stage}.json"
            deepspeed.write_text(json.dumps({"zero_optimization": {"stage": self.stage, "reduce_bucket_size": BUCKET}}))
            tables["engine"] = {"name": "zero", "deepspeed_config": str(deepspeed)}
        return large_run(folder, str(self).replace(" ", "_"), **tables)


PRECISIONS = ("no", "bf16")
FORMATS = (None, "int8", "nf4", "fp8", "int8-matmul", "fp8-matmul")
ONE = [*product(("lora",), PRECISIONS, FORMATS), *product(("full",), PRECISIONS, (None,)), ("full", "bf16", "rounded")]
SIZES = [*product((1, 2), (False, True), (1, 2))]
IN_ONE = [Cell(0, *kind, *size) for kind in ONE for size in SIZES]
DIVIDED = [Cell(*kind, None, *size) for kind in product((1, 2, 3), ("lora", "full"), PRECISIONS) for size in SIZES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peaks")
    write_large(path)
    return path


@pytest.fixture(scope="module")
def held(request: pytest.FixtureRequest, folder: Path) -> dict[Cell, list[Peaks]]:
    """What two processes hold in each cell that is asked for."""
    cells = [cell for cell in asked(request, "cell") if cell.stage]
    run_files, results = folder / "cells.json", folder / "held"
    held: dict[Cell, list[Peaks]] = {}
    for first in range(0, len(cells), IN_A_LAUNCH):
        some = cells[first : first + IN_A_LAUNCH]
        run_files.write_text(json.dumps([str(cell.write(folder)) for cell in some]))
        process = start(torchrun(2, str(WORKER), str(run_files), str(results)), **UNCHECKED)
        said = finish(process, limit=1800)
        assert process.returncode == 0, said
        found = [[Peaks(**each) for each in json.loads(results.with_suffix(f".{rank}").read_text())] for rank in (0, 1)]
        held |= dict(zip(some, map(list, zip(*found, strict=True)), strict=True))
    return held


def check(need: Need, peaks: Peaks) -> None:
    assert need.backward == pytest.approx(peaks.backward, rel=0.1)
    assert need.update == pytest.approx(peaks.update, rel=0.1)


@pytest.mark.parametrize("cell", sampled(IN_ONE, 3, Cell.kinds), ids=str)
def test_one_process_holds_at_the_most_what_is_said(cell: Cell, folder: Path) -> None:
    if cell.stored == "nf4":
        pytest.importorskip("bitsandbytes")
    found, need = predicted(cell.write(folder))
    check(need, peaks_of(found, Processes()))


@pytest.mark.parametrize("cell", sampled(DIVIDED, 3, Cell.kinds), ids=str)
def test_each_of_two_processes_holds_at_the_most_what_is_said(cell: Cell, folder: Path, held: dict[Cell, list[Peaks]]) -> None:
    _, need = predicted(cell.write(folder), processes=2)
    for peaks in held[cell]:
        check(need, peaks)
