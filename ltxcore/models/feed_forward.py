"""Feed-forward in chunks of tokens: its wide layer, four times as wide as a token, then takes memory for one chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint


def in_chunks(module: nn.Module, tokens: Tensor, chunks: int) -> Tensor:
    """Apply a module that treats all tokens `[B, T, C]` alike to one chunk of them after another.

    Activations inside the module are not kept. The backward pass recomputes them, also chunk by chunk.
    """
    if chunks == 1:
        whole: Tensor = module(tokens)
        return whole
    parts = tokens.chunk(chunks, dim=1)
    if not torch.is_grad_enabled():
        return torch.cat([module(part) for part in parts], dim=1)
    # A linear module with a frozen adapter only shows the weight of the module in it.
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear) and "weight" in layer._parameters]
    weights = {layer: cast(Parameter, layer.weight) for layer in layers}

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _with(weights)

    return torch.cat([checkpoint(module, part, use_reentrant=False, context_fn=contexts) for part in parts], dim=1)


@contextmanager
def _with(weights: Mapping[nn.Linear, Parameter]) -> Iterator[None]:
    """Let layers have these weights. With block swap, the layers have only those in host memory once their block has been left."""
    before = {layer: layer.weight for layer, weight in weights.items() if layer.weight is not weight}
    try:
        for layer in before:
            layer.weight = weights[layer]
        yield
    finally:
        for layer, weight in before.items():
            layer.weight = weight
