"""How often a run goes through its data, and how full its micro-batches are."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ltxcore.config.run_file import RunFile
from ltxcore.encoded.batches import Plan


@attrs.frozen
class Passes:
    """The micro-batches of a run, counted.

    A micro-batch holds samples of one shape, so that one of each shape may not be full; where there are few samples of many shapes, most are not.

    Attributes:
        shapes: samples of each shape that are trained on.
        batch_size: samples in a full micro-batch.
        steps: optimiser steps.
        at_once: micro-batches of a step: accumulation x processes.
    """

    shapes: tuple[int, ...]
    batch_size: int
    steps: int
    at_once: int

    @property
    def samples(self) -> int:
        """Those that are trained on."""
        return sum(self.shapes)

    @property
    def per_pass(self) -> int:
        """Micro-batches in a pass over all samples."""
        return sum(-(-count // self.batch_size) for count in self.shapes)

    @property
    def not_full(self) -> int:
        """How many of them hold fewer samples than `batch_size`."""
        return sum(count % self.batch_size > 0 for count in self.shapes)

    @property
    def passes(self) -> float:
        """How often the run goes through all samples."""
        return self.steps * self.at_once / self.per_pass

    @property
    def in_batch(self) -> float:
        """Samples in a micro-batch, on average over a pass."""
        return self.samples / self.per_pass

    @property
    def in_step(self) -> float:
        """Samples in an optimiser step, on average over a pass."""
        return self.at_once * self.in_batch


def passes_of(order: Plan, config: RunFile, processes: int) -> Passes:
    """Those of a run over samples that are encoded, which is exact."""
    return counted([len(names) for names in order.shapes], config, processes)


def counted(shapes: Sequence[int], config: RunFile, processes: int) -> Passes:
    """Those of a run over so many samples of each shape."""
    table = config.optimization
    return Passes(tuple(shapes), table.batch_size, table.steps, table.gradient_accumulation_steps * processes)


def said(found: Passes) -> str:
    """Both in a sentence: how often each sample is trained on, and how full micro-batches are where they are not."""
    often = f"{found.passes:,.0f}" if found.passes >= 100 else f"{found.passes:.3g}"
    times = f"each of {found.samples:,} samples {often} times" if found.samples > 1 else f"the one sample {often} times"
    if not found.not_full:
        return times
    shapes = f", in which samples of one shape go together, of which there are {len(found.shapes)}" if len(found.shapes) > 1 else ""
    batches = f"{found.not_full} of {found.per_pass} micro-batches" if found.per_pass > 1 else "the only micro-batch"
    are = "are" if found.per_pass > 1 and found.not_full > 1 else "is"
    return f"{times}; {batches} {are} not full{shapes}: {found.in_batch:.3g} of {found.batch_size} on average"
