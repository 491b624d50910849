"""Compute the metrics of an optimizer step: sums and counts accumulate over micro-batches and processes, and are
divided at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.devices import is_gpu, peak_gpu_memory
from ltxcore.memory import peak_host_memory
from ltxcore.protocols import Engine, ModelInput

QUARTERS = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
"""The sigma buckets; each upper bound belongs to the next bucket, except for the last."""


@attrs.define
class Tally:
    """Means by name, each stored as a sum and a count."""

    sums: dict[str, float] = attrs.field(factory=dict)
    counts: dict[str, float] = attrs.field(factory=dict)

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + total
        self.counts[name] = self.counts.get(name, 0.0) + count

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}


@attrs.frozen
class Facts:
    """The facts about a micro-batch that are reported besides its losses. They are known before the micro-batch is sent
    to the device, so only the losses have to be read back.

    Attributes:
        sigmas: the sigma of every sample, by modality.
        counted: for every sample, whether any of its tokens counts in the loss, by modality.
        applied: for each condition of the run, whether it was applied to each sample, in any modality.
        drawn: for each drawn key of a condition, by "CONDITION/KEY", the name of each sample's value or of its bin; ""
            for a sample to which the condition was not applied. For each choice, by "CHOICE/one_of", the name of each sample's list.
        sets: the name of the set that each sample comes from; empty if the run has no sets.
        absent: the modalities that the samples lack.
    """

    sigmas: Mapping[str, Sequence[float]]
    counted: Mapping[str, Sequence[bool]]
    applied: Mapping[str, Sequence[bool]]
    drawn: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    sets: Sequence[str] = ()
    absent: frozenset[str] = frozenset()

    @classmethod
    def of(cls, prepared: Mapping[str, ModelInput], sets: Sequence[str] = ()) -> Facts:
        return cls(
            {name: given.sigma.tolist() for name, given in prepared.items()},
            {name: _counted(given) for name, given in prepared.items()},
            {key: applied.tolist() for given in prepared.values() for key, applied in given.applied.items()},
            {key: names for given in prepared.values() for key, names in _drawn(given)},
            sets,
            frozenset(name for name, given in prepared.items() if given.is_absent),
        )

    def parts(self, index: int) -> Iterator[str]:
        """Yield the names of the further means that include a sample: for each condition, whether it was applied, and with which drawn
        values; and the set that it comes from.
        """
        for key, applied in self.applied.items():
            yield f"{key}/{'applied' if applied[index] else 'not_applied'}"
        for key, names in self.drawn.items():
            if names[index]:
                yield f"{key}_{names[index]}"
        if self.sets:
            yield f"set_{self.sets[index]}"


def read(losses: Sequence[Mapping[str, Tensor]]) -> list[dict[str, list[float]]]:
    """Return the values of losses of any shape, by name. All losses are read from the device at once, since each read
    waits for the device.
    """
    return by_name(losses, flat(losses).tolist())


def flat(losses: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return all values of losses of any shape in one tensor, `[N]` float32, on their device."""
    found = [loss.detach().float().reshape(-1) for each in losses for loss in each.values()]
    return torch.cat(found) if found else torch.zeros(0)


def by_name(losses: Sequence[Mapping[str, Tensor]], values: Iterable[float]) -> list[dict[str, list[float]]]:
    """Return the values of losses, in the order of `flat`, by name."""
    rest = iter(values)
    return [{name: list(islice(rest, loss.numel())) for name, loss in each.items()} for each in losses]


@attrs.frozen
class Totals:
    """The report on a step, of one process or of all.

    Attributes:
        tally: the means.
        tokens: the number of tokens that the model saw.
        peak: the largest peak memory of a process, in GiB.
        wrong: for each process, whether a loss of it is not finite.
        is_sound: whether no process knows of a gradient that is not finite.
    """

    tally: Tally
    tokens: float
    peak: float
    wrong: Sequence[bool]
    is_sound: bool


@attrs.define(eq=False)
class Totalling:
    """Combines the reports of all processes, in one sum of numbers over the processes per step.

    For this, all processes have the same list of names of means. If a process has a mean with a new name, which happens in few steps, the
    new names are exchanged, and the sum is taken again.

    Attributes:
        engine: connects the processes.
        names: the names of the means that any process has had so far, in the same order on all processes.
    """

    engine: Engine
    names: list[str] = attrs.field(factory=list)

    def of_all(self, own: Totals) -> Totals:
        """Return the report of all processes; each process calls this with its own, in which `wrong` has one value."""
        size, rank = self.engine.world_size, self.engine.rank
        if size == 1:
            return own
        new = [name for name in own.tally.sums if name not in self.names]
        mine = [float(index == rank) for index in range(size)]
        # Processes that divide the tokens of a micro-batch among them have the same means, of which those of the first count.
        share = float(rank % (size // self.engine.data_parallel_size) == 0)
        while True:
            means = [[share * of.get(name, 0.0) for name in self.names] for of in (own.tally.sums, own.tally.counts)]
            by_process = [[number * each for each in mine] for number in (own.peak, own.wrong[0])]
            numbers = [len(new), not own.is_sound, share * own.tokens, *by_process[0], *by_process[1], *means[0], *means[1]]
            found = iter(self.engine.total(numbers))
            unknown, unsound, tokens = islice(found, 3)
            peaks, wrong = list(islice(found, size)), list(islice(found, size))
            sums, counts = (dict(zip(self.names, islice(found, len(self.names)), strict=True)) for _ in range(2))
            if not unknown:
                # A resumed run learns names in another order, but has its metrics in the same one.
                order = [*own.tally.sums, *sorted(sums.keys() - own.tally.sums.keys())]
                tally = Tally({name: sums[name] for name in order}, {name: counts[name] for name in order})
                return Totals(tally, tokens, max(peaks), [each > 0 for each in wrong], unsound == 0)
            self.names += dict.fromkeys(name for names in self.engine.gather(new) for name in names)
            new = []


def add_losses(tally: Tally, losses: Mapping[str, Sequence[float]], facts: Facts) -> None:
    """Add the losses of a micro-batch to a tally, by modality, by the sigma of that modality, by condition, by drawn
    value, and by set.

    A sample without a token that counts has loss 0. The mean of its modality includes this 0, as the training loss does. The means of
    buckets and conditions leave it out, because it would look like a good prediction in them. `uncounted/MODALITY` is the share of such
    samples. Samples that lack a modality are in none of its means.

    Args:
        tally: the tally to add to.
        losses: the loss of every sample, by generated modality.
        facts: the facts about the micro-batch.
    """
    for name, values in losses.items():
        if name in facts.absent:
            continue
        counted = facts.counted[name]
        tally.add(f"loss/{name}", sum(values), len(values))
        tally.add(f"uncounted/{name}", len(counted) - sum(counted), len(counted))
        kept = [index for index, counts in enumerate(counted) if counts]
        for index in kept:
            tally.add(f"loss/{name}/sigma_{QUARTERS[bucket(facts.sigmas[name][index])]}", values[index])
        for index in kept:
            for part in facts.parts(index):
                tally.add(f"loss/{name}/{part}", values[index])


def bucket(sigma: float) -> int:
    """Return the quarter of [0, 1] that a sigma lies in."""
    return min(int(sigma * len(QUARTERS)), len(QUARTERS) - 1)


def tokens(prepared: Mapping[str, ModelInput]) -> int:
    """Count the tokens that the model sees in a micro-batch, both target and appended tokens."""
    return sum(given.tokens.shape[0] * given.tokens.shape[1] for given in prepared.values() if not given.is_absent)


def peak_memory(device: Any) -> float:
    """Return the peak memory of this process in GiB: GPU memory if the model is on a GPU, otherwise resident memory."""
    if is_gpu(device):
        return peak_gpu_memory(device) / 2**30
    return peak_host_memory() / 2**30


def _drawn(given: ModelInput) -> Iterator[tuple[str, list[str]]]:
    for key, values in given.drawn.items():
        applied = given.applied.get(key.rpartition("/")[0])
        here = [True] * len(values) if applied is None else applied.tolist()  # a choice concerns every sample
        yield key, [value.label if each else "" for value, each in zip(values, here, strict=True)]


def _counted(given: ModelInput) -> list[bool]:
    if given.loss_mask is None:
        return [True] * given.sigma.shape[0]
    return given.loss_mask.any(dim=1).tolist()
