"""The exponential moving average (EMA) of the trained weights.

Each process averages the part of each weight that it holds, in float32. To be measured, generated with or saved, the
average changes places with the weights and back again, so that neither needs another copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.config.kept_weights import EmaTable


def share_kept(step: int, decay: float, every: int) -> float:
    """Return the share of itself that the average keeps when it is updated after optimizer step `step`, counted from 1; 1 if
    it is not updated then.

    It is updated after the first step and then after every `every` steps, each time for all steps since the last
    update.

    Source: docs/explanation/arithmetic.md#average-of-the-weights
    """
    if step > 1 and step % every:
        return 1.0
    steps = max(1, min(every, step - 1))
    return min(decay, (1 + step) / (10 + step)) ** steps


@attrs.define(eq=False)
class WeightAverage:
    """The average of weights.

    Attributes:
        weights: the weights, or this process's parts of them, by name; float32 or bfloat16.
        decay: the share of itself that the average keeps in an optimizer step, once it is warmed up.
        every: the number of optimizer steps between updates.
        on_cpu: whether it is in CPU memory, instead of on the device of the weights.
        steps: the number of optimizer steps since it began.
        tensors: the average by name, float32; while it is in the place of the weights, these hold the weights.
    """

    weights: Mapping[str, Tensor]
    decay: float
    every: int = 1
    on_cpu: bool = False
    steps: int = attrs.field(default=0, init=False)
    tensors: Mapping[str, Tensor] = attrs.field(init=False)

    @classmethod
    def of(cls, table: EmaTable, weights: Mapping[str, Tensor]) -> WeightAverage | None:
        """Return the average that `[ema]` asks for; None if it asks for none."""
        return None if table.decay is None else cls(weights, table.decay, table.every, table.device == "cpu")

    def __attrs_post_init__(self) -> None:
        places = {name: torch.device("cpu") if self.on_cpu else weight.device for name, weight in self.weights.items()}
        self.tensors = {name: weight.detach().to(places[name], torch.float32, copy=True) for name, weight in self.weights.items()}

    @torch.no_grad()
    def begin(self, steps: int = 0, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Set the average to `tensors` after so many steps; None sets it to the weights as they are now."""
        self.steps = steps
        for name, tensor in self.tensors.items():
            tensor.copy_((self.weights if tensors is None else tensors)[name])

    @torch.no_grad()
    def step(self) -> None:
        """Take an optimizer step into account."""
        self.steps += 1
        kept = share_kept(self.steps, self.decay, self.every)
        if kept == 1:
            return
        for name, tensor in self.tensors.items():
            tensor.lerp_(self.weights[name].detach().to(tensor.device, torch.float32), 1 - kept)

    @contextmanager
    def in_place(self, names: Collection[str] | None = None) -> Iterator[None]:
        """Return a context in which the weights of these names, by default all, hold the average; at its end they hold
        what they held before, bit for bit.
        """
        chosen = [name for name in self.weights if names is None or name in names]
        self._exchange(chosen, brings=True)
        try:
            yield
        finally:
            self._exchange(chosen, brings=False)

    @torch.no_grad()
    def _exchange(self, names: Collection[str], brings: bool) -> None:
        for name in names:
            weight, tensor = self.weights[name].detach(), self.tensors[name]
            if weight.dtype == torch.float32:
                held = weight.clone()
                weight.copy_(tensor)
                tensor.copy_(held)
            else:
                exchange_rounded(weight, tensor, brings)


def exchange_rounded(weight: Tensor, average: Tensor, brings: bool) -> None:
    """Exchange a bfloat16 weight with its float32 average, which is rounded to the nearest bfloat16 (a tie, away from 0).

    The weight takes the place of the upper half of the average's bits, which is all that it needs. The lower half stays:
    its highest bit tells whether the average was rounded up, so that `brings=False` undoes what `brings=True` did, bit for
    bit.
    """
    bits = average.view(torch.int32)
    upper, lower = bits >> 16, bits & 0xFFFF
    carry = lower >> 15
    own = weight.view(torch.int16).to(bits.device, torch.int32)
    weight.view(torch.int16).copy_((upper + carry if brings else upper).to(torch.int16))
    bits.copy_(((own if brings else own - carry) << 16) | lower)
