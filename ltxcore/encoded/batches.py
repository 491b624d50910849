"""Micro-batches: the choice of samples that go together, and their order.

A micro-batch holds samples of one shape in every role, so that it can be stacked. Composition and order depend only on
the names, the batch size, the seed and the epoch, not on the number of processes or on what came before. Micro-batches
of all epochs form one endless sequence; an optimizer step takes the next `accumulation x processes` of it, and an epoch
may end within a step.

**Every sample comes exactly once an epoch.** If the samples of a shape are not a multiple of the batch size, one
micro-batch of that shape is smaller. Filling it up by repeating samples would draw the same noise twice, since draws
are keyed by epoch and sample; leaving it out would drop samples, always the same ones if a shape is rare. So that a
sample in a small micro-batch counts as much as any other of its step, the loss of each micro-batch is multiplied by its
weight (`weights`) before gradients are averaged over the step's micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import attrs
import torch

from ltxcore.errors import ConfigError
from ltxcore.flow.draws import generator
from ltxcore.protocols import Entry, Manifest

Shape = tuple[tuple[str, tuple[int, ...]], ...]


@attrs.frozen
class MicroBatch:
    """Samples that are trained on together.

    Attributes:
        id: an id that is the same in every run with this data, batch size and seed, on any number of processes, and
            unique over all epochs.
        names: the names of its samples.
        epoch: the pass over the data, from 0.
    """

    id: str
    names: tuple[str, ...]
    epoch: int = 0


@attrs.frozen
class Order:
    """The endless sequence of micro-batches of a run. Any of them can be asked for directly, as a resumed run does."""

    shapes: tuple[tuple[str, ...], ...]
    batch_size: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """The number of micro-batches in an epoch, the same in all epochs."""
        return sum(-(-len(names) // self.batch_size) for names in self.shapes)

    def micro_batch(self, index: int) -> MicroBatch:
        """Return micro-batch number `index`, counted from 0 over all epochs."""
        epoch, position = divmod(index, self.per_epoch)
        return _epoch(self.shapes, self.batch_size, self.seed, epoch)[position]

    def step(self, index: int, size: int) -> list[MicroBatch]:
        """Return the micro-batches of optimizer step `index`, from 0; `size` is accumulation x processes.

        Any distribution of them over processes gives the same step, as long as each process takes equally many.
        """
        return [self.micro_batch(number) for number in range(index * size, (index + 1) * size)]


def order_of(manifest: Manifest, names: Sequence[str], batch_size: int, seed: int) -> Order:
    """Plan the micro-batches of a run over the samples `names`.

    Raises:
        ConfigError: there are no samples, or a batch size below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"a batch size of {batch_size} is below 1")
    if not names:
        raise ConfigError("there are no samples to form micro-batches from")
    groups: dict[Shape, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(shape_of(manifest, name), []).append(name)
    return Order(tuple(tuple(groups[shape]) for shape in sorted(groups)), batch_size, seed)


def weights(step: Sequence[MicroBatch]) -> list[float]:
    """Return the factors for the mean losses of an optimizer step's micro-batches by which the mean over micro-batches
    becomes the mean over samples.

    With M micro-batches of n_i samples, N in total, the factor is `M * n_i / N`; it is 1 if all are of one size.

    Source: docs/explanation/arithmetic.md#weight-of-a-micro-batch
    """
    total = sum(len(micro_batch.names) for micro_batch in step)
    return [len(step) * len(micro_batch.names) / total for micro_batch in step]


def shape_of(manifest: Manifest, name: str) -> Shape:
    """Return what samples must share to be stacked: the shape in every role but text, which is padded."""
    return tuple((role, entries[name].shape) for role, entries in sorted(manifest.entries.items()) if not _is_text(role, entries[name]))


def _is_text(role: str, entry: Entry) -> bool:
    return entry.kind == "text" or role == "text"


@lru_cache(maxsize=2)
def _epoch(shapes: tuple[tuple[str, ...], ...], batch_size: int, seed: int, epoch: int) -> tuple[MicroBatch, ...]:
    chunks = []
    for number, names in enumerate(shapes):
        order = torch.randperm(len(names), generator=generator(seed, "samples", epoch, number)).tolist()
        chunks += _cut([names[index] for index in order], batch_size)
    order = torch.randperm(len(chunks), generator=generator(seed, "micro-batches", epoch)).tolist()
    return tuple(MicroBatch(f"{epoch}.{position}", chunks[index], epoch) for position, index in enumerate(order))


def _cut(names: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(names[start : start + size]) for start in range(0, len(names), size)]
