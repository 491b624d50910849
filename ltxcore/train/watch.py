"""Where in the model something that is not finite came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module, Parameter


def first_not_finite(model: object, run: Callable[[], object]) -> str:
    """The name of the first module with an output that is not finite while `run` runs the model again; "" if there is none.

    Of modules within one another it is the innermost.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[Module, Any, Any], None]:
        def hook(_: Module, __: Any, output: Any) -> None:
            if not found and not all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(output)):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in cast(Module, model).named_modules() if name]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def last_bad_gradient(parameters: Mapping[str, Parameter]) -> str:
    """The name of the parameter furthest along the model whose gradient is not finite; "" if all are.

    A gradient runs backwards, so what spoils it lies behind the last parameter that it spoils.
    """
    bad = [name for name, parameter in parameters.items() if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())]
    return bad[-1] if bad else ""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
