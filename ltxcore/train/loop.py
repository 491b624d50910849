"""The training loop: from micro-batches to gradients to steps, and the metrics of each step.

It also finds where in the model a value that is not finite came from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

import attrs
import torch
from torch import Tensor
from torch.nn import Module

from ltxcore.devices import with_random_state
from ltxcore.encoded.batches import MicroBatch, Order, weights
from ltxcore.errors import DataError, listed
from ltxcore.flow.draws import CountedDraws, generator
from ltxcore.memory import telling
from ltxcore.modalities.video import VideoModality
from ltxcore.objectives import DEFAULT, ObjectiveUse, drawn, labelled
from ltxcore.protocols import Backbone, Batch, Draws, Engine, ModelInput, Strategy
from ltxcore.runs.passes import LargestDraws, in_words
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.learning import Learned, learn
from ltxcore.train.metrics import Facts, Tally, add_losses, peak_memory, read, tokens
from ltxcore.train.prompts import Prompts
from ltxcore.workers import in_order


@attrs.frozen(eq=False)
class Taken:
    """A micro-batch whose gradients have been added.

    Attributes:
        micro_batch: its samples.
        weight: its weight in its step.
        facts: the facts about it, on the CPU.
        inputs: what the model saw.
        learned: its losses, on the device.
    """

    micro_batch: MicroBatch
    weight: float
    facts: Facts
    inputs: Mapping[str, ModelInput]
    learned: Learned


@attrs.frozen(eq=False)
class Loop:
    """A run's training, step by step.

    Attributes:
        engine: runs and updates the model.
        backbone: connects the text, and is searched for values that are not finite.
        strategy: makes inputs and losses.
        samples: the samples that are read.
        order: the endless sequence of micro-batches.
        seed: the seed of all draws.
        accumulation: the number of micro-batches per optimizer step and process.
        workers: the number of threads that read micro-batches ahead.
        objectives: what is learned; empty for the strategy's own loss alone.
        video_scale: the frames and pixels of a latent cell, for reporting how large clips are.
        last_checkpoint: returns the path of the run's last checkpoint; "" if there is none.
    """

    engine: Engine
    backbone: Backbone
    strategy: Strategy
    samples: Samples
    order: Order
    seed: int
    accumulation: int
    workers: int
    objectives: Sequence[ObjectiveUse] = ()
    video_scale: Sequence[int] = VideoModality().scale
    last_checkpoint: Callable[[], str] = lambda: ""
    _prompts: Prompts = attrs.field(
        init=False, default=attrs.Factory(lambda self: Prompts(self.samples.texts, self.backbone), takes_self=True)
    )

    def steps(self, total: int, first: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
        """Make the optimizer steps `first` + 1 to `total`, and yield the number and the metrics of each.

        Raises:
            DataError: a loss or a gradient is not finite; the error names the step, the samples, their sigmas and the module.
            OutOfMemory: memory ran out; the error names the step, and the samples with their size.
        """
        engine = self.engine
        reading = in_order(self._load, self._dealt(first, total), self.workers, ahead=2 * self.workers)
        for step in range(first + 1, total + 1):
            began = time.perf_counter()
            uses = self._uses(step)
            taken = [self._micro_step(f"training step {step}", uses, *each) for each in islice(reading, self.accumulation)]
            with telling(f"updating the weights in step {step}", engine.device):
                tally = self._read(step, taken)
                rates = engine.learning_rates
                norm = engine.step()
            if not math.isfinite(norm):
                engine.refuse(_stopped(step, "the gradient", engine.gather(_seen(taken)), engine.bad_gradient(), self._left_sound()))
            yield step, self._metrics(tally, sum(tokens(each.inputs) for each in taken), rates, norm, time.perf_counter() - began)

    def attempt(self, micro_batch: MicroBatch) -> None:
        """Compute the gradients of a micro-batch of the largest size, with every condition and objective that has a
        probability, only to see whether memory suffices.

        Nothing of it is kept: it takes no random draws of the run, and the loss is ignored. All processes try the same
        micro-batch, since each of them may get it.

        Raises:
            OutOfMemory: memory does not suffice; the error names the samples with their size.
        """
        draws = LargestDraws(len(micro_batch.names))
        with self.engine.trying():
            batch = self._read_by_all(micro_batch, draws)
            self._micro_step("trying a step before training, the largest of the run,", self._uses(), micro_batch, 1.0, batch, draws)

    def _read_by_all(self, micro_batch: MicroBatch, draws: Draws) -> Batch:
        """Read a micro-batch, or fail on all processes if one cannot read it: a process that went on alone would wait for the others."""
        read: Batch | Exception
        try:
            read = self.samples.load(micro_batch.names, self.strategy.wanted(draws))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are told
            read = error
        failed = self.engine.gather(isinstance(read, Exception))
        if isinstance(read, Exception):
            raise read
        if any(failed):
            raise DataError("another process could not read it")
        return read

    def _dealt(self, first: int, total: int) -> Iterator[tuple[MicroBatch, float]]:
        """Yield the micro-batches of this process, each with its weight in its step.

        A step takes accumulation x processes micro-batches. So a run on another number of processes with the same
        global batch takes the same ones.

        Source: docs/explanation/arithmetic.md#micro-batches-and-passes, #weight-of-a-micro-batch
        """
        engine = self.engine
        for index in range(first, total):
            step = self.order.step(index, self.accumulation * engine.world_size)
            yield from list(zip(step, weights(step), strict=True))[engine.rank :: engine.world_size]

    def _load(self, dealt: tuple[MicroBatch, float]) -> tuple[MicroBatch, float, Batch]:
        micro_batch, weight = dealt
        return micro_batch, weight, self.samples.load(micro_batch.names, self.strategy.wanted(draws_of(self.seed, micro_batch)))

    def _uses(self, step: int | None = None) -> dict[str, ObjectiveUse]:
        """Return the objectives that are learned in a step, by their names in metrics; all of them if there is no step."""
        uses = labelled(self.objectives or [DEFAULT])
        return uses if step is None else drawn(uses, self.seed, step)

    def _micro_step(
        self,
        doing: str,
        uses: Mapping[str, ObjectiveUse],
        micro_batch: MicroBatch,
        weight: float,
        batch: Batch,
        draws: Draws | None = None,
    ) -> Taken:
        """Compute the gradients of a micro-batch. Nothing is asked of the device, so that it is still busy while the
        next micro-batch is prepared.
        """
        device = self.engine.device
        made: Mapping[str, ModelInput] = {}
        with telling(lambda: f"{doing} on {in_words(micro_batch.names, made, self.samples.manifest, self.video_scale)}", device):
            made = prepared(self.strategy, self.backbone, batch, draws or draws_of(self.seed, micro_batch), device)
            facts, inputs = Facts.of(made), sent(made, device)
            with dropout(self.seed, micro_batch, device):
                learned = learn(self.engine, self.strategy, uses, self._prompts, batch, inputs, weight)
        return Taken(micro_batch, weight, facts, inputs, learned)

    def _read(self, step: int, taken: Sequence[Taken]) -> Tally:
        """Return the losses of a step, once all its work is queued; if a loss is not finite, nothing has been updated yet."""
        values = read([each.learned.named() for each in taken])
        self._check_finite(step, taken, [math.isfinite(losses[""][0]) for losses in values])
        tally = Tally()
        for each, losses in zip(taken, values, strict=True):
            tally.add("loss", losses[""][0] * each.weight)
            add_losses(tally, {name: losses[name] for name in each.learned.own}, each.facts)
            for name in filter(None, each.learned.weighted):
                tally.add(f"loss/{name}", losses[name][0] * each.weight)
            for name in each.learned.each:
                tally.add(f"loss/{name}", sum(losses[name]), len(losses[name]))
        return tally

    def _check_finite(self, step: int, taken: Sequence[Taken], are_finite: Sequence[bool]) -> None:
        """Stop all processes if the loss of any is not finite: to find the cause, all processes run the model again,
        which a single one cannot do.
        """
        finite = self.engine.gather(all(are_finite))
        if all(finite):
            return
        # If this process's own losses are finite, any micro-batch will do.
        chosen = next((each for each, is_finite in zip(taken, are_finite, strict=True) if not is_finite), taken[0])
        with dropout(self.seed, chosen.micro_batch, self.engine.device):
            culprit = first_not_finite(self.backbone, lambda: self.engine.forward(chosen.inputs))
        found = self.engine.gather((_seen([chosen]), culprit))
        wrong = [seen for seen, fine in zip(found, finite, strict=True) if not fine]
        self.engine.refuse(_stopped(step, "the loss", [seen for seen, _ in wrong], wrong[0][1]))

    def _left_sound(self) -> str:
        """Say what is still usable after a gradient that is not finite."""
        if not self.engine.updates_in_backward:
            return "Nothing was updated in this step."
        last = self.last_checkpoint()
        again = f"resumes from the last intact checkpoint, {last}" if last else "starts over, since there is no checkpoint yet"
        return f"Other weights of this step were updated already, so the weights in memory cannot be used; the same command {again}."

    def _metrics(self, tally: Tally, seen: int, rates: Mapping[str, float], norm: float, seconds: float) -> dict[str, float]:
        parts = self.engine.gather((tally, seen, peak_memory(self.engine.device)))
        merged = Tally().merge(part[0] for part in parts)
        return {
            **merged.means(),
            "learning_rate": next(iter(rates.values())),
            **{f"learning_rate/{name}": rate for name, rate in rates.items() if name},
            "grad_norm": norm,
            "step_seconds": seconds,
            "tokens_per_second": sum(part[1] for part in parts) / seconds,
            "peak_memory_gib": max(part[2] for part in parts),
        }


def draws_of(seed: int, micro_batch: MicroBatch) -> CountedDraws:
    """Return the random draws that a micro-batch is trained with."""
    return CountedDraws(seed, micro_batch.epoch, micro_batch.names, micro_batch.id)


@contextmanager
def dropout(seed: int, micro_batch: MicroBatch, device: torch.device) -> Iterator[None]:
    """Seed the global generator for this micro-batch, since dropout takes no generator of its own, and restore it
    afterwards.

    Source: docs/explanation/arithmetic.md#random-numbers
    """
    with torch.random.fork_rng(with_random_state(device)):
        torch.manual_seed(generator(seed, "dropout", micro_batch.id).initial_seed())
        yield


Seen = tuple[list[str], dict[str, list[str]]]
"""The names of samples, and their sigmas by modality."""


def _seen(taken: Sequence[Taken]) -> Seen:
    names = [name for each in taken for name in each.micro_batch.names]
    return names, {name: [f"{sigma:.3f}" for each in taken for sigma in each.facts.sigmas[name]] for name in taken[0].facts.sigmas}


def _stopped(step: int, what: str, seen: Sequence[Seen], culprit: str, sound: str = "Nothing was updated in this step.") -> DataError:
    names = [name for part, _ in seen for name in part]
    sigmas = [f"{modality} {listed(value for _, part in seen for value in part[modality])}" for modality in seen[0][1]]
    module = f", first in {culprit}" if culprit else ""
    return DataError(
        f"{what} is not finite (NaN or Inf) at step {step}, samples {listed(names)}, sigmas {'; '.join(sigmas)}{module}",
        remedy=f"{sound} Check these samples, lower optimization.learning_rate, or lower optimization.max_grad_norm.",
    )


def first_not_finite(model: object, run: Callable[[], object]) -> str:
    """Return the name of the first module whose output is not finite when `run` runs the model again; "" if there is
    none.

    Of nested modules, it is the innermost.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[Module, Any, Any], None]:
        def hook(_: Module, __: Any, output: Any) -> None:
            if not found and not all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(output)):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in cast(Module, model).named_modules() if name]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
