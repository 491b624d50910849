"""Ways to run a text encoder in less memory: linear layers with 8-bit weights, or weights that stay in host memory and are moved to the
device one layer at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ltxcore.registry import load


def in_8_bit(module: Any, device: str) -> None:
    """Store the matrix of every linear layer in 8 bits on `device`, and move the other modules to `device`. Activations keep their dtype.

    Raises:
        ConfigError: the plugin with the quantizer is switched off.

    Source: docs/explanation/arithmetic.md#text-encoder-in-8-bits
    """
    quantizer = load().get("quantizer", "int8").value()
    for parent in list(module.modules()):
        for name, linear in parent.named_children():
            if type(linear) is nn.Linear:
                setattr(parent, name, quantizer.store(linear.to(device)))
    module.to(device)


def layer_by_layer(module: Any, device: str) -> None:
    """Leave the layers' weights where they are (mapped files in host memory), and move each layer to `device` only while it computes."""
    layers = set(module.layers)
    for child in module.children():
        if child is not module.layers:
            child.to(device)
    for layer in layers:
        kept = {name: tensor.data for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]}
        layer.register_forward_pre_hook(_bring(kept, device))
        layer.register_forward_hook(_take_back(kept), always_call=True)


def _bring(kept: dict[str, torch.Tensor], device: str) -> Any:
    def hook(layer: nn.Module, inputs: Any) -> None:
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            tensor.data = kept[name].to(device, non_blocking=True)

    return hook


def _take_back(kept: dict[str, torch.Tensor]) -> Any:
    def hook(layer: nn.Module, inputs: Any, outputs: Any) -> None:
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            tensor.data = kept[name]

    return hook
