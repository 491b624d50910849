"""How large a micro-batch is: in tokens, to find the largest of a run, and in words, to tell of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import torch

from ltxcore.encode.buckets import Bucket
from ltxcore.encoded.batches import MicroBatch
from ltxcore.encoded.batches import Plan as Order
from ltxcore.errors import listed
from ltxcore.protocols import Manifest, ModelInput, Source

NAMED = 3
"""Samples of a micro-batch that are named."""


@attrs.frozen
class LargestDraws:
    """Draws by which every condition with a probability above 0 applies, so that all references are there; the rest is 0.

    Attributes:
        size: samples in the micro-batch.
    """

    size: int

    def normal(self, key: str, shape: Sequence[int] = ()) -> torch.Tensor:
        return torch.zeros(self.size, *shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> torch.Tensor:
        return torch.zeros(self.size, *shape)

    def shared_uniform(self, key: str) -> float:
        return 0.0


def stored_tokens(manifest: Manifest, sources: Mapping[str, Source], name: str) -> int:
    """Tokens of a sample: of its targets, and of all references that it may have."""
    return sum(_tokens(manifest.entries[role][name].shape) for role, source in sources.items() if source.kind == "latents")


def largest(order: Order, manifest: Manifest, sources: Mapping[str, Source], first: int, count: int) -> MicroBatch:
    """The micro-batch of most tokens among `count` of a run, from number `first`, from 0; the first of several.

    A pass over the data has all shapes and sizes that there are, so that no more than two are looked at.
    """
    there = (order.micro_batch(index) for index in range(first, first + min(count, 2 * order.per_epoch)))
    return max(there, key=lambda each: len(each.names) * stored_tokens(manifest, sources, each.names[0]))


def in_words(names: Sequence[str], inputs: Mapping[str, ModelInput], manifest: Manifest, scale: Sequence[int]) -> str:
    """A micro-batch, as "2 samples (a, b) of 768x512x89, 8,448 tokens of video".

    Args:
        names: of its samples.
        inputs: what the model sees of them; empty where that was not made.
        manifest: of the data.
        scale: frames and pixels of a latent cell.
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
