"""LoRAs that a run trains on top of. They stay modules of their own between the base's linear modules and the trained adapters, so the base
may be quantized or in host memory, and none of its weights change.

Where all weights are trained, or where processes divide them, the changes of plain LoRAs are added to the outputs of linear modules instead.
No module or parameter has another name then, so that the trained weights are saved, divided and resumed as without the LoRAs.
"""

from __future__ import annotations

from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from ltxcore.config.loras import MERGE
from ltxcore.errors import CheckpointError
from ltxcore.models.adapter_types import LORA
from ltxcore.models.adapters import Layer, take_adapters, weight_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_file import LoraFile
from ltxcore.models.lora_load import fill_adapters


class FrozenLora(nn.Linear):
    """A linear module with a frozen adapter. Other adapters can be put on it, as on any linear module.

    Attributes:
        path: the path of the linear module in the transformer.
        inner: the module of the adapter, which contains the linear module of the base.
    """

    def __init__(self, path: str, layer: Layer) -> None:
        nn.Module.__init__(self)
        self.path = path
        self.in_features, self.out_features = layer.linear.in_features, layer.linear.out_features
        self.inner = layer.module
        object.__setattr__(self, "layer", layer)  # torch must not register its modules a second time

    @property
    def held(self) -> Layer:
        """The frozen adapter and the linear module of the base."""
        return cast(Layer, self.__dict__["layer"])

    def forward(self, input: Tensor) -> Tensor:
        return cast(Tensor, self.inner(input))

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the matrix that the module multiplies by, `[out, in]`: that of the base with the adapter."""
        device = next(iter(self.held.tensors.values())).device  # the base may be in host memory
        return self.held.adapter.weight(self.inner, weight_of(self.held.linear).float().to(device)).detach().to(dtype)

    @property
    def W_q(self) -> Tensor:
        """The stored weight. For a DoRA, peft calls `dequantize()` on a layer that has this attribute to get its whole weight."""
        return self.weight

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            return getattr(self.held.linear, name)
        return super().__getattr__(name)


def freeze_loras(backbone: LTXBackbone, found: LoraFile, where: str) -> None:
    """Put the adapters of a file into a backbone without adapters, and freeze them, so that further adapters can be put on top.

    Raises:
        CheckpointError: the adapters do not fit the base.
    """
    fill_adapters(backbone, found, where)
    for name, layer in take_adapters(backbone).items():
        layer.module.requires_grad_(False)
        parent, _, child = name.rpartition(".")
        setattr(backbone.transformer.get_submodule(parent), child, FrozenLora(name, layer))


@attrs.frozen(eq=False)
class AddedChange:
    """A hook that adds the change of a plain LoRA to the output of a linear module.

    Attributes:
        a: A, `[rank, inputs]` float32.
        b: B, `[outputs, rank]` float32, with all scales folded in.
    """

    a: Tensor
    b: Tensor

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        return output + ((x @ self.a.to(x.dtype).T) @ self.b.to(x.dtype).T).to(output.dtype)


def add_changes(backbone: LTXBackbone, found: LoraFile, where: str, device: torch.device) -> None:
    """Add the changes of LoRAs to the outputs of a backbone's linear modules.

    Args:
        backbone: the backbone, without adapters.
        found: the LoRAs.
        where: the files, for messages.
        device: the device where the backbone computes.

    Raises:
        CheckpointError: the adapters are not plain LoRAs, or do not fit the base.

    Source: docs/explanation/arithmetic.md#several-loras
    """
    refuse_other_types(found, where)
    for name, tensors in found.modules.items():
        a, b = (tensors[each].to(device) for each in ("lora_A", "lora_B"))
        backbone.transformer.get_submodule(name).register_forward_hook(AddedChange(a, b))


def refuse_other_types(found: LoraFile, where: str) -> None:
    """Refuse adapters whose changes `add_changes` cannot add.

    Raises:
        CheckpointError: the adapters are not plain LoRAs.
    """
    if found.kind.type != LORA:
        what = f'adapters of the type "{found.kind.type}" need whole matrices, which full fine-tuning trains and several processes divide'
        raise CheckpointError(what, where=where, remedy=f"Merge them into the model first: {MERGE}.")


def frozen_layers(backbone: LTXBackbone) -> dict[str, Layer]:
    """Return the layers that have a frozen adapter, by the path of the adapted module in the transformer."""
    return {module.path: module.held for module in backbone.transformer.modules() if isinstance(module, FrozenLora)}
