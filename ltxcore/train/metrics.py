"""The metrics of an optimizer step: sums and counts that are accumulated over micro-batches and processes, and divided at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.devices import is_gpu, peak_gpu_memory
from ltxcore.memory import peak_host_memory
from ltxcore.protocols import ModelInput

QUARTERS = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
"""The sigma buckets; each upper bound belongs to the next bucket, except for the last."""


@attrs.define
class Tally:
    """Means by name, each kept as a sum and a count."""

    sums: dict[str, float] = attrs.field(factory=dict)
    counts: dict[str, float] = attrs.field(factory=dict)

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + total
        self.counts[name] = self.counts.get(name, 0.0) + count

    def merge(self, others: Iterable[Tally]) -> Tally:
        """Return the combined tally of several processes."""
        merged = Tally(dict(self.sums), dict(self.counts))
        for other in others:
            for name, total in other.sums.items():
                merged.add(name, total, other.counts[name])
        return merged

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}


@attrs.frozen
class Facts:
    """The facts about a micro-batch that are reported besides its losses. They are known before it is sent to the
    device, so that only the losses have to be read from there.

    Attributes:
        sigmas: the sigma of every sample, by modality.
        counted: whether any token of a sample counts in the loss, by modality.
        applied: for each condition of the run, on any modality, whether it was applied to a sample.
    """

    sigmas: Mapping[str, Sequence[float]]
    counted: Mapping[str, Sequence[bool]]
    applied: Mapping[str, Sequence[bool]]

    @classmethod
    def of(cls, prepared: Mapping[str, ModelInput]) -> Facts:
        return cls(
            {name: given.sigma.tolist() for name, given in prepared.items()},
            {name: _counted(given) for name, given in prepared.items()},
            {key: applied.tolist() for given in prepared.values() for key, applied in given.applied.items()},
        )


def read(losses: Sequence[Mapping[str, Tensor]]) -> list[dict[str, list[float]]]:
    """Return the values of losses of any shapes, by their names; they are read from the device all at once, since each
    read waits for it.
    """
    flat = [loss.detach().float().reshape(-1) for each in losses for loss in each.values()]
    values = iter(torch.cat(flat).tolist() if flat else [])
    return [{name: list(islice(values, loss.numel())) for name, loss in each.items()} for each in losses]


def add_losses(tally: Tally, losses: Mapping[str, Sequence[float]], facts: Facts) -> None:
    """Add the losses of a micro-batch, by modality, by sigma of that modality, and by condition.

    A sample without a token that counts has loss 0. It is included in the mean of its modality, as in the training
    loss, but not in those of buckets and conditions, where the 0 would look like a good prediction; the share of such
    samples is `uncounted/MODALITY`.

    Args:
        tally: the tally to add to.
        losses: the loss of every sample, by generated modality.
        facts: the facts about the micro-batch.
    """
    for name, values in losses.items():
        counted = facts.counted[name]
        tally.add(f"loss/{name}", sum(values), len(values))
        tally.add(f"uncounted/{name}", len(counted) - sum(counted), len(counted))
        kept = [index for index, counts in enumerate(counted) if counts]
        for index in kept:
            tally.add(f"loss/{name}/sigma_{QUARTERS[bucket(facts.sigmas[name][index])]}", values[index])
        for key, applied in facts.applied.items():
            for index in kept:
                tally.add(f"loss/{name}/{key}/{'applied' if applied[index] else 'not_applied'}", values[index])


def bucket(sigma: float) -> int:
    """Return the quarter of [0, 1] that a sigma lies in."""
    return min(int(sigma * len(QUARTERS)), len(QUARTERS) - 1)


def tokens(prepared: Mapping[str, ModelInput]) -> int:
    """Count the tokens of a micro-batch that the model sees, target and appended ones."""
    return sum(given.tokens.shape[0] * given.tokens.shape[1] for given in prepared.values())


def peak_memory(device: Any) -> float:
    """Return the most memory that this process has used, in GiB: of the GPU if the model is on one, else resident memory."""
    if is_gpu(device):
        return peak_gpu_memory(device) / 2**30
    return peak_host_memory() / 2**30


def _counted(given: ModelInput) -> list[bool]:
    if given.loss_mask is None:
        return [True] * given.sigma.shape[0]
    return given.loss_mask.any(dim=1).tolist()
