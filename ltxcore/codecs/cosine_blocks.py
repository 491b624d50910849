"""The arithmetic of the tiny codecs for video and audio: they transform blocks of numbers to standardized low-frequency cosine coefficients
and back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from functools import cache, reduce
from importlib.resources import files
from typing import Any

import attrs
import torch
from torch import Tensor

LEAST_SHARE = 0.5
"""The smallest spread that a coefficient is given, as a share of the root mean square of all standard deviations."""


@cache
def cosines(size: int) -> Tensor:
    """Return the orthonormal cosine transform (DCT-II), `[size, size]` float32; row k has k half periods over the block."""
    n = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (n[None, :] + 0.5) * n[:, None]) * math.sqrt(2.0 / size)
    matrix[0] /= math.sqrt(2.0)
    return matrix.to(torch.float32)


def lowest(sizes: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """List the `count` lowest frequencies of a block, as half periods along each axis; the smallest sum of squares comes first."""
    every = itertools.product(*(range(size) for size in sizes))
    return tuple(sorted(every, key=lambda k: (sum(i * i for i in k), k))[:count])


@cache
def basis(sizes: tuple[int, ...], kept: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the kept frequencies' products of cosines as orthonormal rows over a flattened block, `[len(kept), prod(sizes)]`."""
    return torch.stack([reduce(torch.kron, [cosines(n)[i] for n, i in zip(sizes, k, strict=True)]) for k in kept])


@attrs.frozen(eq=False)
class Statistics:
    """The means and the spreads of all coefficients, both `[D]`; latents are (coefficient - mean) / spread."""

    mean: Tensor
    spread: Tensor

    def standardised(self, coefficients: Tensor) -> Tensor:
        """Convert coefficients `[..., D]` to latents."""
        return (coefficients - self.mean) / self.spread

    def restored(self, latents: Tensor) -> Tensor:
        """Convert latents `[..., D]` back to coefficients."""
        return latents * self.spread + self.mean

    @classmethod
    def of(cls, coefficients: Tensor) -> Statistics:
        """Measure the statistics of coefficients `[N, D]`.

        The spread is the standard deviation, but at least half the root mean square of all standard deviations. Without this minimum,
        coefficients that hardly vary would be scaled up until their noise weighed as much as what can be seen or heard.
        """
        deviation = coefficients.std(dim=0)
        return cls(coefficients.mean(dim=0), deviation.clamp_min(float(deviation.square().mean().sqrt()) * LEAST_SHARE))

    def as_lists(self) -> dict[str, list[float]]:
        """Return the statistics as a table for a JSON file, with five digits per number."""
        return {name: [float(f"{value:.5g}") for value in getattr(self, name).tolist()] for name in ("mean", "spread")}


@cache
def statistics(modality: str) -> Statistics:
    """Load the constants of a modality's tiny codec; they were measured once on the tiny world, and are shipped in the package."""
    table = _table()[modality]
    return Statistics(torch.tensor(table["mean"]), torch.tensor(table["spread"]))


def fingerprint(modality: str, *facts: Any) -> str:
    """Return a name that changes whenever a tiny codec's constants or any of `facts` change."""
    content = json.dumps([modality, _table()[modality], facts], sort_keys=True)
    return f"tiny-{modality}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@cache
def _table() -> dict[str, dict[str, list[float]]]:
    content = files("ltxcore.codecs").joinpath("tiny.json").read_text(encoding="utf-8")
    return dict(json.loads(content))
