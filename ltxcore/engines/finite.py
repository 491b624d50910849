"""Whether gradients are finite, asked of the device once: it is waited for each time that it is asked, and a model has thousands of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn.utils import get_total_norm

if TYPE_CHECKING:
    from torch import Tensor


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those with NaN or infinite values, in order. Only where there are any is each of them asked."""
    some = [tensor for tensor in tensors.values() if tensor.numel()]
    if not some or bool(torch.isfinite(get_total_norm(some, math.inf))):
        return []
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
