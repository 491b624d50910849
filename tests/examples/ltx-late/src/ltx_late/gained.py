"""A linear module whose outputs are scaled, imported when one is made."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gained(nn.Module):
    """A linear module with a factor for each output, within `most` of 1."""

    def __init__(self, linear: nn.Linear, most: float) -> None:
        super().__init__()
        self.linear, self.most = linear, most
        self.gain = nn.Parameter(torch.zeros(linear.out_features, device=linear.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        plain = out if self.linear.bias is None else out - self.linear.bias
        return (out + plain * self.most * self.gain.tanh()).to(out.dtype)
