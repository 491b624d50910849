"""The training loop: micro-batches to gradients to steps, and the numbers of each step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import attrs
import torch
from torch import Tensor

from ltxcore.data.ahead import read_ahead
from ltxcore.data.batches import MicroBatch, weights
from ltxcore.data.batches import Plan as Order
from ltxcore.devices import with_random_state
from ltxcore.errors import DataError, listed
from ltxcore.flow.draws import CountedDraws, generator
from ltxcore.protocols import Backbone, Batch, Engine, ModelInput, Strategy
from ltxcore.train.feed import Samples, prepared
from ltxcore.train.metrics import Tally, add_losses, peak_memory, tokens
from ltxcore.train.watch import first_not_finite


@attrs.frozen(eq=False)
class Loop:
    """A run's training, from step to step.

    Attributes:
        engine: runs and updates the model.
        backbone: for the text, and to look for what is not finite.
        strategy: makes inputs and losses.
        samples: what is read.
        order: the endless sequence of micro-batches.
        seed: of all draws.
        accumulation: micro-batches an optimiser step and process.
        workers: how many micro-batches are read ahead.
    """

    engine: Engine
    backbone: Backbone
    strategy: Strategy
    samples: Samples
    order: Order
    seed: int
    accumulation: int
    workers: int

    def steps(self, total: int, first: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
        """Optimiser steps `first` + 1 to `total`: after each, its number and its metrics.

        Raises:
            DataError: a loss or a gradient is not finite; names the step, the samples, their sigmas and the module.
        """
        engine = self.engine
        reading = read_ahead(self._read, self._dealt(first, total), self.workers)
        for step in range(first + 1, total + 1):
            began = time.perf_counter()
            tally, seen = Tally(), 0
            taken: list[tuple[MicroBatch, Mapping[str, ModelInput]]] = []
            for micro_batch, weight, batch in islice(reading, self.accumulation):
                inputs = prepared(self.strategy, self.backbone, batch, draws_of(self.seed, micro_batch), engine.device)
                self._micro_step(step, micro_batch, weight, inputs, tally)
                taken.append((micro_batch, inputs))
                seen += tokens(inputs)
            rate = engine.learning_rate
            norm = engine.step()
            if not math.isfinite(norm):
                engine.refuse(_stopped(step, "the gradient", engine.gather(_seen(taken)), engine.bad_gradient()))
            yield step, self._metrics(tally, seen, rate, norm, time.perf_counter() - began)

    def _dealt(self, first: int, total: int) -> Iterator[tuple[MicroBatch, float]]:
        """The micro-batches of this process with the weight of each in its step.

        A step takes accumulation x processes of them. So another number of processes with the same global batch takes the same ones.

        Source: design section 4, "Randomness is counted, not streamed".
        """
        engine = self.engine
        for index in range(first, total):
            step = self.order.step(index, self.accumulation * engine.world_size)
            yield from list(zip(step, weights(step), strict=True))[engine.rank :: engine.world_size]

    def _read(self, dealt: tuple[MicroBatch, float]) -> tuple[MicroBatch, float, Batch]:
        micro_batch, weight = dealt
        return micro_batch, weight, self.samples.load(micro_batch.names, self.strategy.wanted(draws_of(self.seed, micro_batch)))

    def _micro_step(self, step: int, micro_batch: MicroBatch, weight: float, inputs: Mapping[str, ModelInput], tally: Tally) -> None:
        with dropout(self.seed, micro_batch, self.engine.device):
            losses = self.strategy.loss(self.engine.forward(inputs), inputs)
            loss = total_loss(losses)
            self._check_finite(step, bool(torch.isfinite(loss)), micro_batch, inputs)
            self.engine.backward(loss * weight)
        tally.add("loss", float(loss.detach()) * weight)
        add_losses(tally, losses, inputs)

    def _check_finite(self, step: int, is_finite: bool, micro_batch: MicroBatch, inputs: Mapping[str, ModelInput]) -> None:
        """Stop all processes where the loss of one is not finite: each runs its model again, since a single one could not."""
        finite = self.engine.gather(is_finite)
        if all(finite):
            return
        culprit = first_not_finite(self.backbone, lambda: self.engine.forward(inputs))
        found = self.engine.gather((_seen([(micro_batch, inputs)]), culprit))
        wrong = [seen for seen, fine in zip(found, finite, strict=True) if not fine]
        self.engine.refuse(_stopped(step, "the loss", [seen for seen, _ in wrong], wrong[0][1]))

    def _metrics(self, tally: Tally, seen: int, rate: float, norm: float, seconds: float) -> dict[str, float]:
        parts = self.engine.gather((tally, seen, peak_memory(self.engine.device)))
        merged = Tally().merge(part[0] for part in parts)
        return {
            **merged.means(),
            "learning_rate": rate,
            "grad_norm": norm,
            "step_seconds": seconds,
            "tokens_per_second": sum(part[1] for part in parts) / seconds,
            "peak_memory_gib": max(part[2] for part in parts),
        }


def draws_of(seed: int, micro_batch: MicroBatch) -> CountedDraws:
    """The draws that a micro-batch is trained with."""
    return CountedDraws(seed, micro_batch.epoch, micro_batch.names, micro_batch.id)


@contextmanager
def dropout(seed: int, micro_batch: MicroBatch, device: torch.device) -> Iterator[None]:
    """Dropout takes no generator, so the global one is seeded for this micro-batch, and put back.

    Source: design section 4, "Randomness is counted, not streamed".
    """
    with torch.random.fork_rng(with_random_state(device)):
        torch.manual_seed(generator(seed, "dropout", micro_batch.id).initial_seed())
        yield


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Losses of the modalities added, averaged over the batch. Source: design section 4, "Training"."""
    return torch.stack(list(losses.values())).sum(dim=0).mean()


Seen = tuple[list[str], dict[str, list[str]]]
"""Names of samples, and their sigmas by modality."""


def _seen(taken: Sequence[tuple[MicroBatch, Mapping[str, ModelInput]]]) -> Seen:
    names = [name for micro_batch, _ in taken for name in micro_batch.names]
    return names, {name: [f"{sigma:.3f}" for _, inputs in taken for sigma in inputs[name].sigma.tolist()] for name in taken[0][1]}


def _stopped(step: int, what: str, seen: Sequence[Seen], culprit: str) -> DataError:
    names = [name for part, _ in seen for name in part]
    sigmas = [f"{modality} {listed(value for _, part in seen for value in part[modality])}" for modality in seen[0][1]]
    module = f", first in {culprit}" if culprit else ""
    return DataError(
        f"{what} is not finite (NaN or Inf) at step {step}, samples {listed(names)}, sigmas {'; '.join(sigmas)}{module}",
        remedy="Nothing was updated in this step. Look at these samples, lower optimization.learning_rate, or lower optimization.max_grad_norm.",
    )
