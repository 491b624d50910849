"""Ways to run a text encoder in less memory: its linear layers in 8 bits, or its weights in host memory and on the
device one layer at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ltxcore.devices import is_gpu
from ltxcore.errors import ConfigError

_OUTLIERS = 6.0
"""The value above which a column is multiplied in 16 bits (LLM.int8)."""


def check_8_bit(device: str) -> None:
    """Refuse 8-bit weights if they are not available.

    Raises:
        ConfigError: bitsandbytes is not installed, or the device is not a CUDA device.
    """
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "a text encoder in 8 bits needs the package bitsandbytes, which is not installed",
            remedy='Install it with `pip install "ltx[low-memory]"`, or leave load_text_encoder_in_8bit out.',
        )
    if not is_gpu(device):
        raise ConfigError(
            f'a text encoder in 8 bits needs a CUDA device, but this is "{device}"',
            remedy="Leave load_text_encoder_in_8bit out.",
        )


def in_8_bit(module: Any, device: str) -> None:
    """Replace every linear layer by one with 8-bit weights on `device`, and move the rest there.

    The weights are rounded from float16, the finer of the 16-bit types; activations keep their own dtype, since those
    of Gemma do not fit float16.

    Source: docs/explanation/arithmetic.md#text-encoder-in-8-bits
    """
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    for parent in list(module.modules()):
        for name, linear in parent.named_children():
            if type(linear) is nn.Linear:
                small = Linear8bitLt(
                    linear.in_features,
                    linear.out_features,
                    linear.bias is not None,
                    has_fp16_weights=False,
                    threshold=_OUTLIERS,
                    device="meta",
                )
                small.weight = Int8Params(linear.weight.detach().to(torch.float16), requires_grad=False, has_fp16_weights=False)
                small.bias = linear.bias
                setattr(parent, name, small)
    module.to(device)


def layer_by_layer(module: Any, device: str) -> None:
    """Keep the layers' weights where they are (mapped files in host memory), and move each layer to `device` only while it computes."""
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
