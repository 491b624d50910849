"""The exponential moving average (EMA) of the trained weights.

Each process averages the part of each weight that it holds, in float32. To measure, generate or save with the average, it is exchanged with
the weights and later exchanged back, so that no further copy is needed.
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
    """Return the share of its previous value that the average keeps after optimizer step `step`, counted from 1. The share is 1 if the
    average is not updated then.

    The average is updated after the first step and then after every `every` steps, each time for all steps since the last update.

    Source: docs/explanation/arithmetic.md#average-of-the-weights
    """
    if step > 1 and step % every:
        return 1.0
    steps = max(1, min(every, step - 1))
    return min(decay, (1 + step) / (10 + step)) ** steps


@attrs.define(eq=False)
class WeightAverage:
    """The moving average of a run's weights.

    Attributes:
        weights: the weights, or this process's parts of them, by name; float32 or bfloat16.
        decay: the share of its previous value that the average keeps in an optimizer step, once it is warmed up.
        every: the number of optimizer steps between updates.
        on_cpu: whether the average is in CPU memory rather than on the device of the weights.
        steps: the number of optimizer steps since the average began.
        tensors: the average by name, float32; while it is exchanged with the weights, these tensors hold the weights.
        is_in_place: whether it is exchanged with all weights at present.
    """

    weights: Mapping[str, Tensor]
    decay: float
    every: int = 1
    on_cpu: bool = False
    steps: int = attrs.field(default=0, init=False)
    tensors: Mapping[str, Tensor] = attrs.field(init=False)
    is_in_place: bool = attrs.field(default=False, init=False)

    @classmethod
    def of(cls, table: EmaTable, weights: Mapping[str, Tensor]) -> WeightAverage | None:
        """Return the average that `[ema]` asks for, if any."""
        return None if table.decay is None else cls(weights, table.decay, table.every, table.device == "cpu")

    def __attrs_post_init__(self) -> None:
        places = {name: torch.device("cpu") if self.on_cpu else weight.device for name, weight in self.weights.items()}
        self.tensors = {name: weight.detach().to(places[name], torch.float32, copy=True) for name, weight in self.weights.items()}

    @torch.no_grad()
    def begin(self, steps: int = 0, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Set the average to `tensors`, and its number of steps to `steps`. If `tensors` is None, set the average to the present
        weights.
        """
        self.steps = steps
        for name, tensor in self.tensors.items():
            tensor.copy_((self.weights if tensors is None else tensors)[name])

    @torch.no_grad()
    def step(self) -> None:
        """Update the average, if it is due, after an optimizer step."""
        self.steps += 1
        kept = share_kept(self.steps, self.decay, self.every)
        if kept == 1:
            return
        for name, tensor in self.tensors.items():
            tensor.lerp_(self.weights[name].detach().to(tensor.device, torch.float32), 1 - kept)

    @contextmanager
    def in_place(self, names: Collection[str] | None = None) -> Iterator[None]:
        """Return a context in which the weights of these names, by default all, hold the average. At the end of the context, the weights
        hold their previous values again, bit for bit.
        """
        chosen = [name for name in self.weights if names is None or name in names]
        before = self.is_in_place
        self._exchange(chosen, brings=True)
        self.is_in_place = before or names is None
        try:
            yield
        finally:
            self.is_in_place = before
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
    """Exchange a bfloat16 weight with its float32 average, which is rounded to the nearest bfloat16 (ties away from 0).

    The 16 bits of the weight replace the upper half of the average's bits. The lower half stays, and its highest bit tells whether the
    average was rounded up, so that `brings=False` undoes `brings=True` bit for bit.
    """
    bits = average.view(torch.int32)
    upper, lower = bits >> 16, bits & 0xFFFF
    carry = lower >> 15
    own = weight.view(torch.int16).to(bits.device, torch.int32)
    weight.view(torch.int16).copy_((upper + carry if brings else upper).to(torch.int16))
    bits.copy_(((own if brings else own - carry) << 16) | lower)
