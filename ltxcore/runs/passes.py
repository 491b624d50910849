"""The passes of a run through its data, and how full its micro-batches are.

The module also counts the tokens of micro-batches, to find the largest micro-batch of a run, and describes a micro-batch in
words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs
import torch

from ltxcore.config.run_file import RunFile
from ltxcore.encode.buckets import Bucket
from ltxcore.encoded.batches import MicroBatch, Order, Shape, SizeOf
from ltxcore.encoded.stored import AXES_OF_PICTURES
from ltxcore.errors import listed
from ltxcore.protocols import Manifest, ModelInput, Source


@attrs.frozen
class Passes:
    """The number of micro-batches in a run and in a pass over its data.

    A micro-batch holds samples of one shape, so one micro-batch of each shape can be smaller than the others. With many shapes of few
    samples, most micro-batches are not full.

    Attributes:
        shapes: the number of samples of each shape in a pass over the training samples; with several sets, a repeated sample counts each
            time.
        sizes: the number of samples of each shape in a full micro-batch; 0 if one sample of the shape has too many tokens for it.
        steps: the number of optimizer steps.
        at_once: the number of micro-batches in a step: accumulation x processes, or groups of processes that divide micro-batches.
        tokens: the number of tokens that micro-batches are filled with; None if they are filled with a number of samples.
        sets: if there are several sets, the number of samples in each, and the number of them in a pass, by name.
    """

    shapes: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: int
    at_once: int
    tokens: int | None = None
    sets: Mapping[str, tuple[int, int]] = attrs.field(factory=dict)

    @property
    def samples(self) -> int:
        """The number of samples in a pass."""
        return sum(self.shapes)

    @property
    def per_pass(self) -> int:
        """The number of micro-batches in a pass over all samples."""
        return sum(-(-count // max(1, size)) for count, size in zip(self.shapes, self.sizes, strict=True))

    @property
    def not_full(self) -> int:
        """The number of micro-batches that have room for more samples."""
        return sum(count % max(1, size) > 0 for count, size in zip(self.shapes, self.sizes, strict=True))

    @property
    def too_large(self) -> int:
        """The number of samples in a pass that have more tokens than a micro-batch should."""
        return sum(count for count, size in zip(self.shapes, self.sizes, strict=True) if not size)

    @property
    def full(self) -> str:
        """The numbers of samples in full micro-batches, as in "4" or "1 to 4"."""
        least, most = max(1, min(self.sizes)), max(1, *self.sizes)
        return str(most) if least == most else f"{least} to {most}"

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
    table = config.optimization
    at_once = table.gradient_accumulation_steps * config.engine.shares(processes)
    return Passes(order.counts, order.sizes, table.steps, at_once, table.tokens_per_batch, order.sets)


def room_of(config: RunFile, sources: Mapping[str, Source]) -> int | SizeOf:
    """Return the number of samples in a full micro-batch of a run, or, if micro-batches are filled with tokens, a function that returns it
    for a shape. The function returns 1 for samples whose shape is not known yet.

    Source: docs/explanation/arithmetic.md#samples-in-a-micro-batch-of-tokens
    """
    table = config.optimization
    most = table.tokens_per_batch
    if most is None:
        return table.batch_size or 1

    def room(shape: Shape) -> int:
        tokens = tokens_of(dict(shape), sources)
        return most // tokens if tokens else 1

    return room


def said(found: Passes) -> str:
    """Return a sentence that tells how often each sample is trained on and, unless all micro-batches are full, how full they are."""
    times = _times(found.samples, found.passes)
    if found.sets:
        rates = {name: found.passes * count / samples for name, (samples, count) in found.sets.items()}
        times = " and ".join(
            f"{_times(samples, rates[name], f' of {name}')} ({100 * count / found.samples:.3g} % of the training)"
            for name, (samples, count) in found.sets.items()
        )
    if found.tokens is not None:
        average = f", {found.in_batch:.3g} on average" if found.full != "1" else ""
        large = f"; samples with more tokens, each in a micro-batch of its own: {found.too_large:,}" if found.too_large else ""
        return f"{times}; a micro-batch of up to {found.tokens:,} tokens holds {found.full} of one shape{average}{large}"
    if not found.not_full:
        return times
    shapes = f" (each holds samples of one shape, and there are {len(found.shapes)} shapes)" if len(found.shapes) > 1 else ""
    batches = f"{found.not_full} of {found.per_pass} micro-batches" if found.per_pass > 1 else "the only micro-batch"
    are = "are" if found.per_pass > 1 and found.not_full > 1 else "is"
    return f"{times}; {batches} {are} not full{shapes}: {found.in_batch:.3g} of {found.full} on average"


def _times(samples: int, passes: float, of: str = "") -> str:
    number = f"{passes:,.0f}" if passes >= 100 else f"{passes:.3g}"
    often = "once" if number == "1" else f"{number} times"
    return f"each of {samples:,} samples{of} {often}" if samples > 1 else f"the one sample{of} {often}"


NAMED = 3
"""The number of samples that the description of a micro-batch names."""


@attrs.frozen
class LargestDraws:
    """The draws that result in the most tokens: every condition with a probability above 0 applies, so all references are present, and
    drawn values append as many tokens as they can; all other draws are 0.

    Attributes:
        size: the number of samples in the micro-batch.
    """

    are_largest: ClassVar[bool] = True

    size: int

    def normal(self, key: str, shape: Sequence[int] = ()) -> torch.Tensor:
        return torch.zeros(self.size, *shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> torch.Tensor:
        return torch.zeros(self.size, *shape)

    def shared_uniform(self, key: str) -> float:
        return 0.0


def stored_tokens(manifest: Manifest, sources: Mapping[str, Source], name: str) -> int:
    """Count the tokens of a sample: the tokens of its targets and of all its possible references and pictures."""
    own = {role: source for role, source in sources.items() if name in manifest.entries[role]}
    return tokens_of({role: manifest.entries[role][name].shape for role in own}, own)


def load_of(manifest: Manifest, sources: Mapping[str, Source], name: str) -> int:
    """Return a number by which samples are compared to find the largest: the tokens of a sample. If samples lack a modality, a video token
    counts twice, since the video stream of all released models is twice as wide.
    """
    tokens = stored_tokens(manifest, sources, name)
    if not any(source.may_be_absent for source in sources.values()):
        return tokens
    videos = {role: source for role, source in sources.items() if source.modality == "video"}
    return tokens + stored_tokens(manifest, videos, name)


def tokens_of(shapes: Mapping[str, Sequence[int]], sources: Mapping[str, Source]) -> int:
    """Count the tokens of a sample, given the shapes of its data by role. Of each choice, the list with the most tokens counts. Roles whose
    shapes are not known do not count.
    """
    sizes = Counter[tuple[str, int] | None]()
    for role, source in sources.items():
        if source.kind in ("latents", "pictures") and role in shapes:
            sizes[source.one_of] += _tokens(shapes[role])
    most: dict[str, int] = {}
    for (choice, _), size in ((key, size) for key, size in sizes.items() if key is not None):
        most[choice] = max(size, most.get(choice, 0))
    return sizes[None] + sum(most.values())


def largest(order: Order, manifest: Manifest, sources: Mapping[str, Source], first: int, count: int) -> MicroBatch:
    """Return the micro-batch with the most tokens among `count` micro-batches of a run, starting at number `first`, counted from
    0; if several have equally many, return the first of them.

    A pass over the data contains all shapes and sizes, so at most two passes are searched.
    """
    there = (order.micro_batch(index) for index in range(first, first + min(count, 2 * order.per_epoch)))
    return max(there, key=lambda each: len(each.names) * load_of(manifest, sources, each.names[0]))


def in_words(names: Sequence[str], inputs: Mapping[str, ModelInput], manifest: Manifest, scale: Sequence[int]) -> str:
    """Describe a micro-batch, as in "2 samples (a, b) of 768x512x89, 8,448 tokens of video".

    Args:
        names: the names of the samples in the micro-batch.
        inputs: the model's inputs for these samples; empty if no inputs were made.
        manifest: the manifest of the data.
        scale: the frames and pixels of a latent cell.
    """
    many = f"{len(names)} sample{'' if len(names) == 1 else 's'} ({listed(names, NAMED)})"
    clip = manifest.entries.get("video", {}).get(names[0])
    size = f" of {_bucket(clip.shape, scale)}" if clip is not None and len(clip.shape) == 4 else ""
    tokens = [f"{math.prod(given.tokens.shape[:2]):,} tokens of {name}" for name, given in inputs.items() if not given.is_absent]
    return f"{many}{size}{', ' if tokens else ''}{' and '.join(tokens)}"


def _bucket(shape: Sequence[int], scale: Sequence[int]) -> Bucket:
    """Return the pixels and frames of a clip whose latents have this shape."""
    frames, rows, columns = shape[1:]
    return Bucket(columns * scale[2], rows * scale[1], (frames - 1) * scale[0] + 1)


def _tokens(shape: Sequence[int]) -> int:
    if len(shape) == AXES_OF_PICTURES:
        return shape[0] * math.prod(shape[2:])
    return math.prod(shape[1:]) if len(shape) == 4 else shape[1]
