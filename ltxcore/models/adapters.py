"""Functions that put float32 adapters, whose types plugins add, beside the linear modules of a backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter

from ltxcore.adapters import AdapterSettings, AdapterType
from ltxcore.models.adapter_types import Adapter
from ltxcore.models.backbone import LTXBackbone


@attrs.frozen(eq=False)
class Layer:
    """A layer of a backbone with an adapter.

    Attributes:
        kind: the type of the adapter.
        settings: the adapter's settings.
        linear: the linear module that is adapted.
        module: the module that took the place of the linear one, and that contains it.
    """

    kind: Adapter
    settings: AdapterSettings
    linear: Linear
    module: Module

    @property
    def adapter(self) -> AdapterType:
        return self.kind.adapter

    @property
    def tensors(self) -> Mapping[str, Parameter]:
        """The adapter's parameters by name."""
        return self.adapter.tensors(self.module)

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The adapter's buffers by their names in the module, without those of the linear module."""
        inside = {id(buffer) for buffer in self.linear.buffers()}
        return {name: buffer for name, buffer in self.module.named_buffers() if id(buffer) not in inside}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the whole `tensors`, even if this process holds only parts of them."""
        return self.adapter.shapes(self.linear.out_features, self.linear.in_features, self.settings)


_LAYER = "adapted_layer"
"""The attribute that holds the `Layer` of a module which took the place of a linear one."""


def create_adapters(backbone: LTXBackbone, settings: Mapping[str, AdapterSettings], kind: Adapter, *, seed: int) -> None:
    """Freeze the base and put a float32 adapter beside each module in `settings` (paths in the transformer).

    The initial values are drawn from `seed` and the module's name, and do not change the model's predictions.

    Args:
        backbone: the backbone, without adapters.
        settings: the rank, alpha and dropout of each module's adapter.
        kind: the type of the adapters.
        seed: the seed of the initial values.
    """
    backbone.requires_grad_(False)
    device = backbone.device
    is_sketch = device.type == "meta"  # the meta device has only shapes, and no values to set
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # a library may draw from the global generator, whose state is restored
        for name, each in settings.items():
            parent, _, child = name.rpartition(".")
            linear: Any = backbone.transformer.get_submodule(name)
            module = kind.adapter.wrap(linear, each)
            layer = Layer(kind, each, linear, module)
            setattr(module, _LAYER, _Held(layer))
            setattr(backbone.transformer.get_submodule(parent), child, module)
            if is_sketch:
                continue
            for tensor in layer.tensors.values():  # the base may be in host memory, or have another dtype
                tensor.data = torch.empty(tensor.shape, dtype=torch.float32, device=device)
            for buffer in layer.buffers.values():
                buffer.data = buffer.data.to(device)
            key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
            kind.adapter.start(module, linear, generator)


@attrs.frozen(eq=False)
class _Held:
    """A holder of a layer, which keeps torch from registering the layer's modules a second time."""

    layer: Layer


def adapters(backbone: LTXBackbone) -> dict[str, Layer]:
    """Return the layers that have an adapter, sorted, by the path of the adapted module in the transformer."""
    found = {name: module for name, module in backbone.transformer.named_modules() if _LAYER in vars(module)}
    return {name: vars(module)[_LAYER].layer for name, module in sorted(found.items())}


def take_adapters(backbone: LTXBackbone) -> dict[str, Layer]:
    """Return the layers that have an adapter, as `adapters` does, which then no longer finds them. Their modules stay in place."""
    found = adapters(backbone)
    for layer in found.values():
        delattr(layer.module, _LAYER)
    return found


def weight_of(linear: Linear) -> Tensor:
    """Return the matrix of a linear module, `[outputs, inputs]`, dequantized and detached."""
    from peft.utils.integrations import dequantize_module_weight

    weight: Tensor = dequantize_module_weight(linear)
    return weight.detach()
