"""Updates of one tensor at a time, for weights in bfloat16 with stochastic rounding, and within the backward pass.

In full fine-tuning of a large model, one GPU has no room for float32 weights, or for the gradients of all tensors at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from ltxcore.flow.draws import generator

if TYPE_CHECKING:
    from torch import Generator, Tensor


def round_stochastically(value: Tensor, draws: Generator) -> Tensor:
    """Round float32 numbers to a neighboring bfloat16 number. The probability of rounding up equals the relative distance from the lower
    neighbor.

    With rounding to nearest, every update smaller than half the distance to the next number (1/512 of the weight) is lost; with stochastic
    rounding, updates are exact on average. Numbers that bfloat16 can represent, including infinity, stay unchanged.

    Args:
        value: the numbers, float32 of any shape.
        draws: a generator on the same device, for 16 random bits per number.

    Source: docs/explanation/arithmetic.md#stochastic-rounding
    """
    bits = value.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=value.device, generator=draws)
    return (bits + noise).bitwise_and_(-1 << 16).view(torch.float32).to(torch.bfloat16)


@attrs.define(eq=False)
class TensorUpdates:
    """An updater of one parameter at a time, with the same state and keys as an optimizer over all parameters.

    A bfloat16 parameter, and the parts of its state that have the same shape, are float32 during the update, and are rounded stochastically
    afterwards. The random bits depend only on the seed, the step and the tensor, so that a resumed run draws the same bits.

    Attributes:
        parameters: the trained parameters, by name.
        optimizer: an optimizer over all these parameters, which uses no other tensor while it updates one.
        seed: the run's seed.
    """

    parameters: Mapping[str, Parameter]
    optimizer: Optimizer
    seed: int
    _groups: Mapping[Tensor, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._groups = {each: index for index, group in enumerate(self.optimizer.param_groups) for each in group["params"]}

    def update(self, name: str, step: int) -> None:
        """Update a parameter by its gradient, then drop the gradient; `step` is the optimizer step, counted from 0."""
        parameter = self.parameters[name]
        if parameter.dtype == torch.bfloat16:
            self._update_rounded(name, parameter, step)
        else:
            self._update_alone(parameter, parameter)
        parameter.grad = None

    def _update_alone(self, parameter: Parameter, held: Parameter) -> None:
        """Make an optimizer step for one parameter, for which `held` stands in. A step with all parameters would go through thousands each
        time.
        """
        groups = self.optimizer.param_groups
        self.optimizer.param_groups = [{**groups[self._groups[parameter]], "params": [held]}]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups

    def _update_rounded(self, name: str, parameter: Parameter, step: int) -> None:
        held = Parameter(parameter.detach().float())
        held.grad = None if parameter.grad is None else parameter.grad.float()
        state: dict[str, Any] = self.optimizer.state.pop(parameter, {})
        if state:  # an optimizer would take an empty state to mean that the parameter was updated before
            widened = {kind: value.float() for kind, value in state.items() if _is_rounded(value, held, torch.bfloat16)}
            self.optimizer.state[held] = state | widened
        self._update_alone(parameter, held)
        state = self.optimizer.state.pop(held, {})
        for kind, value in state.items():
            if _is_rounded(value, held, torch.float32):
                state[kind] = round_stochastically(value, self._draws(name, kind, step, value.device))
        if state:
            self.optimizer.state[parameter] = state
        parameter.data.copy_(round_stochastically(held.data, self._draws(name, "", step, parameter.device)))

    def _draws(self, name: str, kind: str, step: int, device: torch.device) -> Generator:
        seed = generator(self.seed, "rounding", name, kind, step).initial_seed()
        return torch.Generator(device).manual_seed(seed)


def _is_rounded(value: Any, parameter: Parameter, dtype: torch.dtype) -> bool:
    """Return whether a part of an optimizer's state has one number for each number of the parameter, unlike a count of steps."""
    return isinstance(value, torch.Tensor) and value.dtype == dtype and value.ndim > 0 and value.shape == parameter.shape


@attrs.define(eq=False)
class BackwardUpdates:
    """An updater of each parameter during the backward pass, as soon as the gradient is complete, so that no two gradients exist at once.

    Attributes:
        updates: the updates of single tensors.
        max_grad_norm: the norm to which a larger gradient of a tensor is scaled down; 0 for no limit.
        step: a function that returns the number of finished optimizer steps.
    """

    updates: TensorUpdates
    max_grad_norm: float
    step: Callable[[], int]
    _is_on: bool = attrs.field(default=True, init=False)
    _squares: dict[str, Tensor] = attrs.field(factory=dict, init=False)
    _bad: list[str] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        for name, parameter in self.updates.parameters.items():
            parameter.register_post_accumulate_grad_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        def whole(parameter: Tensor) -> None:
            if self._is_on:
                self._take(name, parameter)
            parameter.grad = None

        return whole

    def _take(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        norm = torch.linalg.vector_norm(gradient, dtype=torch.float32)
        if not bool(torch.isfinite(norm)):
            self._bad.append(name)
            return
        self._squares[name] = norm.square()
        if self.max_grad_norm > 0:
            gradient.mul_((self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        self.updates.update(name, self.step())

    @property
    def bad(self) -> str:
        """The name of the first parameter in the backward pass with a gradient that was not finite; "" if all gradients were finite."""
        return next(iter(self._bad), "")

    def norm(self) -> float:
        """Return the norm of the step's gradients before clipping; infinity if any gradient was not finite.

        A parameter that no loss of the step reached gets a gradient of zero, so that weight decay and momentum still
        apply.
        """
        squares, self._squares = self._squares, {}
        if self._bad:
            return math.inf
        for name, parameter in self.updates.parameters.items():
            if name not in squares:
                parameter.grad = torch.zeros_like(parameter)
                self.updates.update(name, self.step())
        return float(torch.stack(list(squares.values())).sum().sqrt()) if squares else 0.0

    @contextmanager
    def off(self) -> Iterator[None]:
        """Return a context in which gradients are dropped and nothing is updated."""
        self._is_on = False
        try:
            yield
        finally:
            self._is_on = True
