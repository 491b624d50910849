"""From the hidden states of the text encoder, those of all its layers, to the features that are stored.

L positions, D numbers a position and layer, n layers (the embedding is the first of them), E numbers a feature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

_EPSILON = 1e-6
_RANGE = 8.0
"""What the range of a layer's values becomes, in the first version."""


def by_layer(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first version: every layer of a sample is centred and brought to a range of 8, over its words.

    Args:
        hidden: `[B, L, D, n]`.
        mask: 1 for words, 0 for padding, `[B, L]`.

    Returns:
        `[B, L, D * n]` float32, n fastest; 0 where there is padding.

    Source: reference-behaviour F.5, "per-sample per-layer mean/range normalisation x8".
    """
    words = mask.bool()[:, :, None, None]
    values = hidden.to(torch.float32)
    count = mask.sum(dim=1).to(torch.float32)[:, None, None, None] * hidden.shape[2]
    mean = values.masked_fill(~words, 0.0).sum(dim=(1, 2), keepdim=True) / (count + _EPSILON)
    low = values.masked_fill(~words, math.inf).amin(dim=(1, 2), keepdim=True)
    high = values.masked_fill(~words, -math.inf).amax(dim=(1, 2), keepdim=True)
    scaled = (values - mean) / (high - low + _EPSILON) * _RANGE
    return scaled.masked_fill(~words, 0.0).flatten(2)


def by_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The second version: every token of every layer is brought to a root mean square of 1.

    Args:
        hidden: `[B, L, D, n]`.
        mask: 1 for words, 0 for padding, `[B, L]`.

    Returns:
        `[B, L, D * n]` float32, n fastest; 0 where there is padding.

    Source: reference-behaviour F.5, "per-token RMS norm".
    """
    values = hidden.to(torch.float32)
    scaled = values * torch.rsqrt(values.square().mean(dim=2, keepdim=True) + _EPSILON)
    return scaled.masked_fill(~mask.bool()[:, :, None, None], 0.0).flatten(2)


@attrs.frozen(eq=False)
class Projection:
    """A linear map: `weight` `[E, D * n]`, `bias` `[E]` or none."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        return torch.nn.functional.linear(values.to(self.weight.dtype), self.weight, self.bias)


@attrs.frozen(eq=False)
class FeatureExtractor:
    """Hidden states to features by modality.

    Attributes:
        projections: one by modality (the second version), or the one of both under "" (the first).
    """

    projections: Mapping[str, Projection]

    def __call__(self, hidden: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Features of each modality, `[B, L, E]`, in the projections' dtype.

        Args:
            hidden: `[B, L, D, n]`.
            mask: 1 for words, 0 for padding, `[B, L]`.

        Source: reference-behaviour F.5: one projection, or two after a rescaling by sqrt(E / D).
        """
        if "" in self.projections:
            both = self.projections[""](by_layer(hidden, mask))
            return {"video": both, "audio": both}
        scaled = by_token(hidden, mask)
        return {
            name: projection(scaled * math.sqrt(projection.weight.shape[0] / hidden.shape[2]))
            for name, projection in self.projections.items()
        }
