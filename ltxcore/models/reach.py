"""The search for parameters that no loss of a run can reach, by a single backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.models.backbone import LTXBackbone

Seen = Callable[[str], None]


def unreached_parameters(backbone: LTXBackbone, loss_fn: Callable[[], Tensor]) -> frozenset[str]:
    """Return the names in `backbone.named_parameters()` of the parameters that the gradient of a loss does not reach.

    For example, in a run that generates video for given audio, the last block's attention from video to audio is not reached.

    A matrix counts as reached if a gradient reaches its output. The gradient of the matrix itself is not computed, so the matrix may be
    large, quantized, or on another device. Other gradients are dropped as soon as they are computed. Afterwards the same parameters are
    trainable as before, and have the same gradients.

    Args:
        backbone: the backbone, whose frozen parameters are examined too.
        loss_fn: a function that runs the backbone and returns a scalar.
    """
    parameters = dict(backbone.named_parameters())
    linears = {f"{path}.weight": module for path, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    others = {name: parameter for name, parameter in parameters.items() if name not in linears}
    reached: set[str] = set()
    with _as_before(parameters), contextlib.ExitStack() as hooks:
        for name, parameter in parameters.items():
            parameter.grad = None
            parameter.requires_grad_(name in others)
        for name, parameter in others.items():
            hooks.callback(parameter.register_post_accumulate_grad_hook(_of_parameter(name, reached.add)).remove)
        for name, module in linears.items():
            hooks.callback(module.register_forward_hook(_of_output(name, reached.add)).remove)
        loss_fn().backward()
    return frozenset(parameters.keys() - reached)


@contextlib.contextmanager
def _as_before(parameters: dict[str, Parameter]) -> Iterator[None]:
    trained = {name: parameter.requires_grad for name, parameter in parameters.items()}
    kept = {name: parameter.grad for name, parameter in parameters.items()}
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(trained[name])
            parameter.grad = kept[name]


def _of_parameter(name: str, seen: Seen) -> Callable[[Parameter], None]:
    def hook(parameter: Parameter) -> None:
        seen(name)
        parameter.grad = None

    return hook


def _of_output(name: str, seen: Seen) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if not output.requires_grad:  # nothing earlier has a gradient, and this weight would be the first to get one
            output.requires_grad_(True)
        output.register_hook(lambda gradient: seen(name))

    return hook
