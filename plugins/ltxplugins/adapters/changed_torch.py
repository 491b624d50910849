"""Add a learned change to a linear module. This Python module imports torch, so it is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.api.adapters import weight_of
from ltxplugins.adapters.folding import FACTORS

Tensors = Mapping[str, Tensor]


class Changed(nn.Module):
    """A linear module with a learned change. Its output is that of the linear module plus `scale` times the result of
    `change`, a function of the named tensors and the input.

    Attributes:
        factors: the factors of the rows of the changed matrix; None unless a file has them.
    """

    factors: Tensor | None

    def __init__(
        self,
        linear: nn.Linear,
        shapes: Mapping[str, tuple[int, ...]],
        scale: float,
        change: Callable[[Tensors, Tensor], Tensor],
        frozen: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.linear, self.scale, self.change = linear, scale, change
        self.register_buffer("factors", None, persistent=False)
        for name, shape in shapes.items():
            value = torch.empty(shape, device=linear.weight.device)
            self.register_parameter(name, Parameter(value, requires_grad=name not in frozen))

    def tensors(self) -> dict[str, Parameter]:
        """Return the tensors of the change, by name."""
        return dict(self.named_parameters(recurse=False))

    def fill(self, tensors: Tensors) -> None:
        """Replace the tensors of the change. The names and shapes of the new tensors may differ from those of the old tensors."""
        device = next(iter(self.tensors().values())).device
        for name in self.tensors().keys() - tensors.keys():
            delattr(self, name)
        for name, tensor in tensors.items():
            own = self.tensors().get(name)
            if own is not None and own.shape == tensor.shape:
                own.copy_(tensor)
            else:
                self.register_parameter(name, Parameter(tensor.to(device, torch.float32)))

    def take_factors(self, tensors: Tensors) -> None:
        """Take the factors of the rows from the tensors of a module in a file, if it has any. The changed matrix is multiplied by them, and
        divided by the lengths of the base's rows, as in ComfyUI.
        """
        if FACTORS in tensors:
            lengths = torch.linalg.norm(weight_of(self.linear).float(), dim=1)
            device = next(iter(self.tensors().values())).device
            factors = tensors[FACTORS].to(lengths.device) / (lengths + torch.finfo(torch.float32).eps)
            self.factors = factors.to(device)

    def with_factors(self, changed: Tensor) -> Tensor:
        """Return a changed matrix multiplied by the factors of its rows, if there are any."""
        return changed if self.factors is None else self.factors[:, None] * changed

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        tensors = self.tensors()
        change = self.change(tensors, as_computed(x, next(iter(tensors.values())).dtype))
        changed = out + (change * self.scale).to(out.dtype)
        if self.factors is None:
            return changed
        bias = 0 if self.linear.bias is None else self.linear.bias.to(out.dtype)
        return (changed - bias) * self.factors.to(out.dtype) + bias


def as_computed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an input in the form that a product with tensors of a dtype needs: unchanged under autocast, which
    converts both factors, and otherwise in that dtype.

    Under autocast, converting the input here would make one more copy of it, which autocast would then convert back.
    """
    device = x.device.type
    return x if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) else x.to(dtype)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return random numbers that are uniform between -1 / sqrt(columns) and 1 / sqrt(columns)."""
    bound = shape[-1] ** -0.5
    return torch.rand(shape, generator=generator) * 2 * bound - bound
