"""Text brought to the length that a model takes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ltxcore.protocols import Text


def padded(features: Mapping[str, Tensor], length: int) -> Text:
    """Features of a text `[l, E]` by modality, as `[1, length, E]` with zeros on the left, float32; and the mask of its words.

    Source: design section 7, "Text features".
    """
    words = next(iter(features.values())).shape[0]
    found = {}
    for name, own in features.items():
        found[name] = torch.zeros(1, length, own.shape[1])
        found[name][0, length - words :] = own.to(torch.float32)
    mask = torch.zeros(1, length)
    mask[0, length - words :] = 1.0
    return Text(found, mask)
