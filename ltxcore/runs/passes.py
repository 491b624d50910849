"""The passes of a run through its data, and how full its micro-batches are.

The module also counts the tokens of micro-batches, to find the largest of a run, and describes a micro-batch in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import torch

from ltxcore.config.run_file import RunFile
from ltxcore.encode.buckets import Bucket
from ltxcore.encoded.batches import MicroBatch, Order
from ltxcore.errors import listed
from ltxcore.protocols import Manifest, ModelInput, Source


@attrs.frozen
class Passes:
    """The micro-batches of a run, counted.

    A micro-batch holds samples of one shape, so one micro-batch of each shape may not be full; if there are many shapes
    with few samples each, most are not.

    Attributes:
        shapes: the number of samples of each shape that are trained on.
        batch_size: the number of samples in a full micro-batch.
        steps: the number of optimizer steps.
        at_once: the number of micro-batches in a step: accumulation x processes.
    """

    shapes: tuple[int, ...]
    batch_size: int
    steps: int
    at_once: int

    @property
    def samples(self) -> int:
        """The number of samples that are trained on."""
        return sum(self.shapes)

    @property
    def per_pass(self) -> int:
        """The number of micro-batches in a pass over all samples."""
        return sum(-(-count // self.batch_size) for count in self.shapes)

    @property
    def not_full(self) -> int:
        """The number of micro-batches that hold fewer samples than `batch_size`."""
        return sum(count % self.batch_size > 0 for count in self.shapes)

    @property
    def passes(self) -> float:
        """The number of times that the run goes through all samples."""
        return self.steps * self.at_once / self.per_pass

    @property
    def in_batch(self) -> float:
        """The number of samples in a micro-batch, on average over a pass."""
        return self.samples / self.per_pass

    @property
    def in_step(self) -> float:
        """The number of samples in an optimizer step, on average over a pass."""
        return self.at_once * self.in_batch


def passes_of(order: Order, config: RunFile, processes: int) -> Passes:
    """Count the passes of a run over encoded samples, exactly."""
    return counted([len(names) for names in order.shapes], config, processes)


def counted(shapes: Sequence[int], config: RunFile, processes: int) -> Passes:
    """Count the passes of a run, given the number of samples of each shape."""
    table = config.optimization
    return Passes(tuple(shapes), table.batch_size, table.steps, table.gradient_accumulation_steps * processes)


def said(found: Passes) -> str:
    """Say in a sentence how often each sample is trained on, and how full micro-batches are if they are not all full."""
    often = f"{found.passes:,.0f}" if found.passes >= 100 else f"{found.passes:.3g}"
    times = f"each of {found.samples:,} samples {often} times" if found.samples > 1 else f"the one sample {often} times"
    if not found.not_full:
        return times
    shapes = f" (each holds samples of one shape, and there are {len(found.shapes)} shapes)" if len(found.shapes) > 1 else ""
    batches = f"{found.not_full} of {found.per_pass} micro-batches" if found.per_pass > 1 else "the only micro-batch"
    are = "are" if found.per_pass > 1 and found.not_full > 1 else "is"
    return f"{times}; {batches} {are} not full{shapes}: {found.in_batch:.3g} of {found.batch_size} on average"


NAMED = 3
"""The number of samples of a micro-batch to name."""


@attrs.frozen
class LargestDraws:
    """Draws for which every condition with a probability above 0 applies, so that all references are there; every other
    draw is 0.

    Attributes:
        size: the number of samples in the micro-batch.
    """

    size: int

    def normal(self, key: str, shape: Sequence[int] = ()) -> torch.Tensor:
        return torch.zeros(self.size, *shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> torch.Tensor:
        return torch.zeros(self.size, *shape)

    def shared_uniform(self, key: str) -> float:
        return 0.0


def stored_tokens(manifest: Manifest, sources: Mapping[str, Source], name: str) -> int:
    """Count the tokens of a sample: those of its targets, and of all references that it may have."""
    return sum(_tokens(manifest.entries[role][name].shape) for role, source in sources.items() if source.kind == "latents")


def largest(order: Order, manifest: Manifest, sources: Mapping[str, Source], first: int, count: int) -> MicroBatch:
    """Return the micro-batch with the most tokens among `count` of a run, starting at number `first`, counted from 0;
    the first one if several have as many.

    A pass over the data has all shapes and sizes, so no more than two passes are searched.
    """
    there = (order.micro_batch(index) for index in range(first, first + min(count, 2 * order.per_epoch)))
    return max(there, key=lambda each: len(each.names) * stored_tokens(manifest, sources, each.names[0]))


def in_words(names: Sequence[str], inputs: Mapping[str, ModelInput], manifest: Manifest, scale: Sequence[int]) -> str:
    """Describe a micro-batch, as in "2 samples (a, b) of 768x512x89, 8,448 tokens of video".

    Args:
        names: the names of its samples.
        inputs: the model's inputs for them; empty if they were not made.
        manifest: the manifest of the data.
        scale: the frames and pixels of a latent cell.
    """
    many = f"{len(names)} sample{'' if len(names) == 1 else 's'} ({listed(names, NAMED)})"
    shapes = [manifest.entries["video"][names[0]].shape] if "video" in manifest.entries else []
    size = "".join(f" of {_bucket(shape, scale)}" for shape in shapes if len(shape) == 4)
    tokens = [f"{math.prod(given.tokens.shape[:2]):,} tokens of {name}" for name, given in inputs.items()]
    return f"{many}{size}{', ' if tokens else ''}{' and '.join(tokens)}"


def _bucket(shape: Sequence[int], scale: Sequence[int]) -> Bucket:
    """The pixels and frames of a clip whose latents have this shape."""
    frames, rows, columns = shape[1:]
    return Bucket(columns * scale[2], rows * scale[1], (frames - 1) * scale[0] + 1)


def _tokens(shape: Sequence[int]) -> int:
    return math.prod(shape[1:]) if len(shape) == 4 else shape[1]
