"""Run the training loop: compute gradients from micro-batches, update the weights, and report the metrics of each step.

If a value is not finite, the loop also finds the module that produced it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count, islice
from types import MappingProxyType
from typing import Any, cast

import attrs
import torch
from torch import Tensor
from torch.nn import Module

from ltxcore.config.run_file import Dropped
from ltxcore.devices import seeded
from ltxcore.encoded.batches import MicroBatch, Order
from ltxcore.errors import DataError, listed
from ltxcore.flow.draws import generator
from ltxcore.memory import telling
from ltxcore.modalities.video import VideoModality
from ltxcore.objectives import DEFAULT, ObjectiveUse, drawn, labelled
from ltxcore.protocols import Backbone, Engine, ModelInput, Strategy
from ltxcore.runs.passes import LargestDraws, in_words
from ltxcore.train.caption_dropout import CaptionDropout
from ltxcore.train.dealing import OWN, Data, Dealt, Read, of_each_share
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.learning import Given, Learned, learn
from ltxcore.train.metrics import Facts, Tally, Totalling, Totals, add_losses, by_name, flat, peak_memory, tokens
from ltxcore.train.prompts import Prompts
from ltxcore.workers import in_order


@attrs.frozen(eq=False)
class Part:
    """A micro-batch of one dataset, as the model saw it.

    Attributes:
        dealt: the micro-batch.
        facts: the facts about the micro-batch, on the CPU.
        inputs: the inputs that the model was given.
    """

    dealt: Dealt
    facts: Facts
    inputs: Mapping[str, ModelInput]


@attrs.frozen(eq=False)
class Taken:
    """A micro-batch whose gradients have been added, with the micro-batches of the objectives that have a dataset.

    Attributes:
        own: the run's own samples.
        others: the samples of the objectives.
        learned: the losses, on the device.
    """

    own: Part
    others: Sequence[Part]
    learned: Learned

    @property
    def parts(self) -> Sequence[Part]:
        return self.own, *self.others


@attrs.frozen(eq=False)
class Loop:
    """The training of a run, step by step.

    Attributes:
        engine: runs and updates the model.
        backbone: connects the text; if a loss is not finite, the cause is searched for in the backbone.
        strategy: makes inputs and losses.
        samples: the samples that are read.
        order: the endless sequence of micro-batches.
        seed: the seed of all draws.
        accumulation: the number of micro-batches per optimizer step and process.
        workers: the number of threads that read micro-batches ahead.
        objectives: the objectives; empty for the strategy's loss alone.
        caption_dropout: the probability of dropping a caption, or a probability for each modality.
        video_scale: the frames, rows and columns of pixels in a latent cell, used to report the size of clips.
        last_checkpoint: returns the path of the run's last checkpoint; "" if there is none.
        datasets: the data of the objectives that have a dataset of their own, by their names in metrics.
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
    caption_dropout: Dropped = 0.0
    video_scale: Sequence[int] = VideoModality().scale
    last_checkpoint: Callable[[], str] = lambda: ""
    datasets: Mapping[str, Data] = attrs.field(factory=dict)
    _prompts: Prompts = attrs.field(
        init=False, default=attrs.Factory(lambda self: Prompts(self.samples.texts, self.backbone), takes_self=True)
    )
    _drops: CaptionDropout = attrs.field(
        init=False, default=attrs.Factory(lambda self: CaptionDropout(self.caption_dropout, self._prompts), takes_self=True)
    )

    _totalling: Totalling = attrs.field(init=False, default=attrs.Factory(lambda self: Totalling(self.engine), takes_self=True))

    def steps(self, total: int, first: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
        """Run the optimizer steps `first` + 1 to `total`, and yield the number and the metrics of each step.

        Raises:
            DataError: a loss or a gradient is not finite; the error names the step, the samples, their sigmas and the module.
            OutOfMemory: memory ran out; the error names the step, the samples and their size.
        """
        engine = self.engine
        reading = in_order(self._load, self._dealt(first, total), self.workers, ahead=2 * self.workers)
        for step in range(first + 1, total + 1):
            began = time.perf_counter()
            uses = self._uses(step)
            taken = [self._micro_step(f"training step {step}", uses, each) for each in islice(reading, self.accumulation)]
            with telling(f"updating the weights in step {step}", engine.device):
                rates = engine.learning_rates
                totals, norm = self._update(step, taken)
            if not math.isfinite(norm):
                seen = of_each_share(engine, engine.gather(_seen(taken)))
                engine.refuse(_stopped(step, "the gradient", seen, engine.bad_gradient(), self._left_sound()))
            yield step, self._metrics(totals, rates, norm, time.perf_counter() - began)

    def attempt(self, micro_batch: MicroBatch, others: Mapping[str, MicroBatch] = MappingProxyType({})) -> None:
        """Compute the gradients of a micro-batch of the largest size, with every condition and every objective applied,
        to find out whether there is enough memory. `others` are the largest micro-batches of the objectives' datasets.

        The gradients and the loss are discarded, and the run's random draws are not used up. All processes try the same
        micro-batch, since the run may give it to any of them.

        Raises:
            OutOfMemory: memory does not suffice; the error names the samples and their size.
        """
        tried = {OWN: (self.samples, micro_batch), **{label: (self.datasets[label].samples, each) for label, each in others.items()}}
        dealt = {label: Dealt(of, each, 1.0, LargestDraws(len(each.names))) for label, (of, each) in tried.items()}
        with self.engine.trying():
            self._micro_step("trying a step before training, the largest of the run,", self._uses(), self._read_by_all(dealt))

    def _read_by_all(self, dealt: Mapping[str, Dealt]) -> Read:
        """Read a micro-batch. If one process cannot read it, all processes fail, because a process that continued would
        wait for the others forever.
        """
        read: Read | Exception
        try:
            read = self._load(dealt)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are told
            read = error
        failed = self.engine.gather(isinstance(read, Exception))
        if isinstance(read, Exception):
            raise read
        if any(failed):
            raise DataError("another process could not read the micro-batch")
        return read

    def _dealt(self, first: int, total: int) -> Iterator[Mapping[str, Dealt]]:
        """Yield each micro-batch of this process, together with the micro-batches of the step's objectives that have a dataset."""
        own, place = (
            Data(self.samples, self.order, self.seed),
            (self.accumulation, self.engine.data_parallel_rank, self.engine.data_parallel_size),
        )
        for index in range(first, total):
            learned = {label: data for label, data in self.datasets.items() if label in self._uses(index + 1)}
            steps = {label: data.step(index, *place) for label, data in {OWN: own, **learned}.items()}
            yield from ({label: step[number] for label, step in steps.items()} for number in range(self.accumulation))

    def _load(self, dealt: Mapping[str, Dealt]) -> Read:
        return {label: each.made(self.strategy, self.engine.device) for label, each in dealt.items()}

    def _uses(self, step: int | None = None) -> dict[str, ObjectiveUse]:
        """Return the objectives that are drawn for a step, by their names in metrics; without a step, return all
        objectives.
        """
        uses = labelled(self.objectives or [DEFAULT])
        return uses if step is None else drawn(uses, self.seed, step)

    def _micro_step(self, doing: str, uses: Mapping[str, ObjectiveUse], read: Read) -> Taken:
        """Compute the gradients of a micro-batch. No value is read from the device, so that the device stays busy while
        the next micro-batch is prepared.
        """
        device = self.engine.device
        made: dict[str, Mapping[str, ModelInput]] = {}
        with telling(lambda: f"{doing} on {self._in_words(read, made)}", device):
            for label, each in read.items():
                made[label] = prepared(self.strategy, self.backbone, each.batch, each.dealt.draws, device, self._drops, each.ahead)
            parts = {
                label: Part(dealt, Facts.of(made[label], dealt.samples.sets(dealt.micro_batch.names)), sent(made[label], device))
                for label, dealt in ((label, each.dealt) for label, each in read.items())
            }
            given = {label: Given(read[label].batch, part.inputs, part.dealt.weight) for label, part in parts.items()}
            with dropout(self.seed, read[OWN].dealt.micro_batch, device):
                learned = learn(self.engine, self.strategy, uses, self._prompts, given.pop(OWN), given)
        return Taken(parts.pop(OWN), tuple(parts.values()), learned)

    def _in_words(self, read: Read, made: Mapping[str, Mapping[str, ModelInput]]) -> str:
        said = (
            in_words(each.dealt.micro_batch.names, made.get(label, {}), each.dealt.samples.manifest, self.video_scale)
            for label, each in read.items()
        )
        return ", and ".join(said)

    def _update(self, step: int, taken: Sequence[Taken]) -> tuple[Totals, float]:
        """Update the weights after all work of a step is queued, unless a loss or a gradient is not finite. The losses of the step are read
        from the device together with the norm of the gradients, and are combined with those of other processes, before any weight changes.

        Returns:
            The report of all processes on the step, and the norm.
        """
        found: list[Totals] = []

        def agreed(values: list[float], is_sound: bool) -> bool:
            losses = by_name([each.learned.named() for each in taken], values)
            are_finite = [math.isfinite(each[""][0]) for each in losses]
            seen = sum(tokens(part.inputs) for each in taken for part in each.parts)
            own = Totals(_tally(taken, losses), seen, peak_memory(self.engine.device), [not all(are_finite)], is_sound)
            totals = self._totalling.of_all(own)
            self._check_finite(step, taken, are_finite, totals.wrong)
            found.append(totals)
            return totals.is_sound

        norm = self.engine.step(flat([each.learned.named() for each in taken]), agreed)
        return found[0], norm

    def _check_finite(self, step: int, taken: Sequence[Taken], are_finite: Sequence[bool], wrong: Sequence[bool]) -> None:
        """Stop all processes if a loss on any of them is not finite. To find the cause, all processes run the model
        again, since one process cannot run it alone.

        Args:
            step: the number of the step.
            taken: the micro-batches of this process.
            are_finite: whether the loss of each of them is finite.
            wrong: for each process, whether a loss of it is not finite.
        """
        if not any(wrong):
            return
        # A process whose own losses are finite runs any micro-batch.
        chosen = next((each for each, is_finite in zip(taken, are_finite, strict=True) if not is_finite), taken[0])
        with dropout(self.seed, chosen.own.dealt.micro_batch, self.engine.device):
            culprit = first_not_finite(self.backbone, lambda: [self.engine.forward(part.inputs) for part in chosen.parts])
        damaged = [problem for part in chosen.parts for problem in part.dealt.samples.damaged(part.dealt.micro_batch.names)]
        found, size = self.engine.gather((_seen([chosen]), culprit, damaged)), self.engine.world_size // self.engine.data_parallel_size
        groups = [found[first : first + size] for first in range(0, len(found), size) if any(wrong[first : first + size])]
        # Of processes that divide the tokens of a micro-batch, only that with the token at fault sees the first module.
        _, module = min((each for _, each, _ in groups[0] if each), default=(0, ""))
        stopped = _stopped(step, "the loss", [group[0][0] for group in groups], module)
        self.engine.refuse(DataError.of([*stopped.problems, *(problem for group in groups for problem in group[0][2])]))

    def _left_sound(self) -> str:
        """Say which weights are still usable if a gradient was not finite."""
        if not self.engine.updates_in_backward:
            return "Nothing was updated in this step."
        last = self.last_checkpoint()
        again = f"resumes from the last intact checkpoint, {last}" if last else "starts over, since there is no checkpoint yet"
        return f"Other weights of this step were updated already, so the weights in memory cannot be used; the same command {again}."

    def _metrics(self, totals: Totals, rates: Mapping[str, float], norm: float, seconds: float) -> dict[str, float]:
        return {
            **totals.tally.means(),
            "learning_rate": next(iter(rates.values())),
            **{f"learning_rate/{name}": rate for name, rate in rates.items() if name},
            "grad_norm": norm,
            "step_seconds": seconds,
            "tokens_per_second": totals.tokens / seconds,
            # Other processes reported theirs before they updated the weights.
            "peak_memory_gib": max(totals.peak, peak_memory(self.engine.device)),
        }


def _tally(taken: Sequence[Taken], losses: Sequence[Mapping[str, Sequence[float]]]) -> Tally:
    """Return the means of a step over this process's micro-batches, from the values of each one's losses by name."""
    tally = Tally()
    for each, values in zip(taken, losses, strict=True):
        weight = each.own.dealt.weight
        tally.add("loss", values[""][0] * weight)
        add_losses(tally, {name: values[name] for name in each.learned.own}, each.own.facts)
        for name in filter(None, each.learned.weighted):
            tally.add(f"loss/{name}", values[name][0] * weight)
        for name in each.learned.each:
            tally.add(f"loss/{name}", sum(values[name]), len(values[name]))
    return tally


def dropout(seed: int, micro_batch: MicroBatch, device: torch.device) -> AbstractContextManager[None]:
    """Seed PyTorch's global generator for this micro-batch, and restore it afterwards. Dropout accepts no other
    generator.

    Source: docs/explanation/arithmetic.md#random-numbers
    """
    return seeded(generator(seed, "dropout", micro_batch.id).initial_seed(), device)


Seen = tuple[list[str], dict[str, list[str]]]
"""The names of samples, and their sigmas by modality."""


def _seen(taken: Sequence[Taken]) -> Seen:
    parts = [part for each in taken for part in each.parts]
    names = [name for part in parts for name in part.dealt.micro_batch.names]
    return names, {name: [f"{sigma:.3f}" for part in parts for sigma in part.facts.sigmas[name]] for name in parts[0].facts.sigmas}


def _stopped(step: int, what: str, seen: Sequence[Seen], culprit: str, sound: str = "Nothing was updated in this step.") -> DataError:
    names = [name for part, _ in seen for name in part]
    sigmas = [f"{modality} {listed(value for _, part in seen for value in part[modality])}" for modality in seen[0][1]]
    module = f", first in {culprit}" if culprit else ""
    return DataError(
        f"{what} is not finite (NaN or Inf) at step {step}, samples {listed(names)}, sigmas {'; '.join(sigmas)}{module}",
        remedy=f"{sound} Check these samples, lower optimization.learning_rate, or lower optimization.max_grad_norm.",
    )


def first_not_finite(model: object, run: Callable[[], object]) -> tuple[int, str] | None:
    """Return the first module whose output is not finite when `run` runs the model again, as the number of outputs before its own and its
    name; None if there is none.

    Of nested modules, the innermost is named.
    """
    found: list[tuple[int, str]] = []
    places = count()

    def watch(name: str) -> Callable[[Module, Any, Any], None]:
        def hook(_: Module, __: Any, output: Any) -> None:
            place = next(places)
            if not found and not all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(output)):
                found.append((place, name))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in cast(Module, model).named_modules() if name]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


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
