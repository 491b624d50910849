"""The base's own answer, from a model with adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from ltxcore.models.adapters import adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import Backbone


@contextmanager
def without_adapters(backbone: Backbone) -> Iterator[None]:
    """Return a context in which a backbone predicts what its base does, as if it had no adapters. It is for passes
    without a gradient: gradient checkpointing would recompute blocks after its end.
    """
    layers = list(adapters(cast(LTXBackbone, backbone)).values())
    for layer in layers:
        object.__setattr__(layer, "forward", layer.get_base_layer().__call__)
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "forward")
