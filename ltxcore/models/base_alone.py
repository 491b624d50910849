"""A context in which a trained model predicts like its base, and the frozen copy of the base that full fine-tuning needs for this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import attrs
from torch import Tensor, nn

from ltxcore.models.adapters import adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import Backbone


@attrs.frozen(eq=False)
class CopyOfBase:
    """Predicts like a base, with a frozen copy of it, in place of a backbone whose own weights are trained.

    Attributes:
        backbone: the copy.
    """

    backbone: LTXBackbone

    def __attrs_post_init__(self) -> None:
        self.backbone.eval().requires_grad_(False)

    def __call__(self, *inputs: Any, runner: Any = None, **options: Any) -> dict[str, Tensor]:
        """Return the predictions of the base. The engine, `runner`, is not used, since it only runs the weights that it trains."""
        predicted: dict[str, Tensor] = self.backbone(*inputs, **options)
        return predicted


@contextmanager
def like_base(backbone: Backbone) -> Iterator[None]:
    """Return a context in which a backbone predicts like its base: by its copy of the base if it has one, and otherwise as if it had no
    adapters.

    It is only for passes without gradients, since gradient checkpointing would recompute blocks after the context has ended.
    """
    model = cast(LTXBackbone, backbone)
    instead: dict[nn.Module, Callable[..., Any]] = {layer.module: layer.linear.__call__ for layer in adapters(model).values()}
    if model.copy_of_base is not None:
        instead = {model: model.copy_of_base}
    for module, forward in instead.items():
        object.__setattr__(module, "forward", forward)
    try:
        yield
    finally:
        for module in instead:
            object.__delattr__(module, "forward")
