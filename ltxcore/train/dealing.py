"""Deal the micro-batches of a step, from the run's own data and from the datasets of its objectives, to processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import attrs
import torch

from ltxcore.encoded.batches import MicroBatch, Order, weights
from ltxcore.encoded.streams import placeholders
from ltxcore.flow.draws import CountedDraws
from ltxcore.protocols import Batch, Draws, Engine, ModelInput, Strategy
from ltxcore.runs.memory_settings import KEPT
from ltxcore.runs.run_plan import RunPlan
from ltxcore.train.feed import Samples, made

T = TypeVar("T")

OWN = ""
"""The key of the run's own data, beside keys that are the names of objectives in metrics."""


@attrs.frozen(eq=False)
class Dealt:
    """A micro-batch that a process trains on.

    Attributes:
        samples: the samples that the micro-batch is read from.
        micro_batch: the names of its samples.
        weight: the weight of the micro-batch in its step.
        draws: the random draws that it is trained with.
    """

    samples: Samples
    micro_batch: MicroBatch
    weight: float
    draws: Draws

    def load(self, strategy: Strategy) -> Batch:
        """Read the samples of the micro-batch, with the references that its draws ask for.

        Raises:
            DataError: a file does not match the manifest.
        """
        return self.samples.load(self.micro_batch.names, strategy.wanted(self.draws), self.draws)

    def made(self, strategy: Strategy, device: torch.device) -> Loaded:
        """Read the samples of the micro-batch, and make the model's inputs for `device` as far as this is possible without the model.

        Raises:
            DataError: a file does not match the manifest.
        """
        batch, inputs = made(strategy, self.load(strategy), self.draws, device)
        return Loaded(self, batch, inputs)


@attrs.frozen(eq=False)
class Data:
    """Samples that a run trains on, in their order.

    Attributes:
        samples: the samples that are read.
        order: the endless sequence of micro-batches.
        seed: the seed of their draws.
    """

    samples: Samples
    order: Order
    seed: int

    def step(self, index: int, accumulation: int, rank: int, world_size: int) -> list[Dealt]:
        """Return the micro-batches of a process in optimizer step `index`, from 0. If processes divide the tokens of a micro-batch among
        them, `rank` and `world_size` count groups of such processes.

        A step takes `accumulation` micro-batches for each process. A run on a different number of processes with the
        same global batch therefore takes the same micro-batches.

        Source: docs/explanation/arithmetic.md#micro-batches-and-passes, #weight-of-a-micro-batch
        """
        step = self.order.step(index, accumulation * world_size)
        mine = list(zip(step, weights(step), strict=True))[rank::world_size]
        return [Dealt(self.samples, micro_batch, weight, draws_of(self.seed, micro_batch)) for micro_batch, weight in mine]


def of_each_share(engine: Engine, values: Sequence[T]) -> Sequence[T]:
    """Return one value of each share of the micro-batches, from the values of all processes. Processes that divide the tokens of a
    micro-batch among them have the same value, which would otherwise count several times.
    """
    return values[:: engine.world_size // engine.data_parallel_size]


def in_turns(items: Sequence[T], rank: int, world_size: int) -> Iterator[tuple[T, bool]]:
    """Yield a process's items, and whether the result of each is used. All processes have the same number of items, so that none waits for
    another; if the items do not divide evenly, the remaining processes have the last item again.
    """
    for start in range(0, len(items), world_size):
        yield items[min(start + rank, len(items) - 1)], start + rank < len(items)


@attrs.frozen(eq=False)
class Loaded:
    """A micro-batch that has been read.

    Attributes:
        dealt: the micro-batch.
        batch: its samples.
        ahead: the model's inputs, except for their text; empty if the strategy itself reads the text (`feed.made`).
    """

    dealt: Dealt
    batch: Batch
    ahead: Mapping[str, ModelInput]


Read = Mapping[str, Loaded]
"""Micro-batches that have been read: the run's (`OWN`), and those of objectives with a dataset of their own, by the objective's name in
metrics.
"""


def draws_of(seed: int, micro_batch: MicroBatch) -> CountedDraws:
    """Return the random draws for training on a micro-batch."""
    return CountedDraws(seed, micro_batch.epoch, micro_batch.names, micro_batch.id, micro_batch.passes)


def data_of(plan: RunPlan) -> dict[str, Data]:
    """Return the data of a run (`OWN`), and of the objectives that have a dataset of their own, by their names in metrics."""
    plans, cells = {OWN: plan, **plan.datasets}, placeholders(plan.manifest)
    return {
        label: Data(
            Samples(each.outline.root, each.outline.strategy.sources(), each.manifest, KEPT // len(plans), cells=cells),
            each.order,
            each.order.seed,
        )
        for label, each in plans.items()
    }
