"""The report on a step: what processes with different means, in different order, make of them together, and in how many messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import torch.distributed as dist
from torch.multiprocessing import spawn

from ltxcore.engines.process_group import Group
from ltxcore.protocols import Engine
from ltxcore.train.metrics import Tally, Totalling, Totals

pytestmark = pytest.mark.slow

Means = dict[str, tuple[float, float]]


@attrs.define(eq=False)
class Counting(Group):
    """The processes as an engine has them, with the messages between them counted."""

    data_parallel_size: int = 2
    sent: list[str] = attrs.field(factory=list)

    def total(self, numbers: Any) -> list[float]:
        self.sent.append("total")
        return super().total(numbers)

    def gather(self, value: Any) -> list[Any]:
        self.sent.append("gather")
        return super().gather(value)


STEPS: list[list[Means]] = [
    [{"loss": (2.0, 1.0), "left": (1.0, 2.0)}, {"loss": (4.0, 3.0), "right": (6.0, 2.0)}],
    [{"left": (3.0, 1.0), "loss": (1.0, 1.0)}, {"loss": (5.0, 1.0)}],
]
"""The sum and the count of each mean of each process in each step."""


def work(rank: int, folder: str, shares: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    group = Counting(rank, 2, dist.group.WORLD, data_parallel_size=shares)
    totalling, found = Totalling(cast(Engine, group)), []
    for number, step in enumerate(STEPS):
        own = step[rank if shares == 2 else 0]  # processes that divide the tokens of a micro-batch have the same means
        tally = Tally({name: total for name, (total, _) in own.items()}, {name: count for name, (_, count) in own.items()})
        group.sent.clear()
        totals = totalling.of_all(Totals(tally, 10.0 + rank, 3.0 - rank, [rank == number], is_sound=rank != number))
        report = [totals.tokens, totals.peak, list(totals.wrong), totals.is_sound]
        found.append([list(totals.tally.means().items()), report, list(group.sent)])
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def reports(folder: Path, shares: int) -> list[list[Any]]:
    """For each process, its report on each step."""
    spawn(work, (str(folder), shares), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_processes_with_different_means_report_those_of_all_in_one_message_unless_a_name_is_new(tmp_path: Path) -> None:
    first, other = reports(tmp_path, shares=2)
    assert first[0] == [
        [["loss", 1.5], ["left", 0.5], ["right", 3.0]],
        [21.0, 3.0, [True, False], False],
        ["total", "gather", "total"],
    ]
    assert other[0] == [[["loss", 1.5], ["right", 3.0], ["left", 0.5]], *first[0][1:]]
    assert first[1] == [[["left", 3.0], ["loss", 3.0]], [21.0, 3.0, [False, True], False], ["total"]]
    assert other[1] == [[["loss", 3.0], ["left", 3.0]], *first[1][1:]]


def test_processes_that_divide_the_tokens_of_a_micro_batch_count_once(tmp_path: Path) -> None:
    for own in reports(tmp_path, shares=1):
        assert [each[:2] for each in own] == [
            [[["loss", 2.0], ["left", 0.5]], [10.0, 3.0, [True, False], False]],
            [[["left", 3.0], ["loss", 1.0]], [10.0, 3.0, [False, True], False]],
        ]
