"""Functions that build a backbone from a configuration. The backbone is built without memory, reduced to what the run needs, and then
filled with weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ltxcore.errors import ConfigError
from ltxcore.later import uncollected
from ltxcore.model_config import building
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.blueprint import Blueprint
from ltxcore.models.parameter_names import block_of
from ltxcore.models.quantized import is_quantizable, quantized
from ltxcore.models.transformer import TimestepRule, Transformer
from ltxcore.models.transformer_settings import Config, diffusers_arguments
from ltxcore.protocols import MODALITIES
from ltxcore.quantizers import QuantizerType


def meta_model(official: Config, where: str) -> Any:
    """Build diffusers' model of this configuration on the meta device, with names and shapes but no memory.

    Raises:
        CheckpointError: the configuration has settings that are not supported.
    """
    with uncollected():
        from diffusers import LTX2VideoTransformer3DModel

    arguments = diffusers_arguments(official, where)
    with building("a transformer", where), torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Initializing zero-element tensors is a no-op"
        )  # a width of 0 does not fit the file's tensors, which is reported later
        return LTX2VideoTransformer3DModel(**arguments)


def blueprint_of(model: nn.Module) -> Blueprint:
    """Return the names and shapes of a whole model that has been built."""
    return Blueprint(
        shapes={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
        linears=frozenset(name for name, module in model.named_modules() if isinstance(module, nn.Linear)),
    )


def build(official: Config, info: ModelInfo, modalities: frozenset[str], *, rule: TimestepRule = "split") -> LTXBackbone:
    """Build a backbone on the meta device with the streams of `modalities` and, if there are two, the attention between them.

    Raises:
        ConfigError: there are no modalities, or unknown ones.
        CheckpointError: the configuration has settings that are not supported.
    """
    if not modalities or not modalities <= set(MODALITIES):
        raise ConfigError(f"a model cannot be loaded for the modalities {sorted(modalities)}", remedy='Use "video", "audio" or both.')
    model = meta_model(official, info.name)
    blueprint = blueprint_of(model)
    return LTXBackbone(Transformer(model, modalities, rule=rule), modalities=modalities, info=info, blueprint=blueprint)


def fill(
    backbone: LTXBackbone,
    tensor: Callable[[str], Tensor],
    dtype: torch.dtype | None,
    quantizer: QuantizerType | None = None,
    offloaded: int = 0,
    kept: Callable[[str], tuple[Tensor, Tensor] | None] = lambda name: None,
) -> None:
    """Give every parameter the values that `tensor` returns for its name (in diffusers' names). The values stay on their device, and are
    converted to `dtype` unless it is None.

    The blocks' matrices are stored by `quantizer`, if there is one, and the matrices of the first `offloaded` blocks are moved to host
    memory. This is done for each matrix before the next is read, so that the unquantized weights are never all in memory at once. A matrix
    for which `kept` returns 8-bit numbers and the factors of their rows goes to the quantizer in that form.
    """
    transformer = backbone.transformer
    for path, module in list(transformer.named_modules()):
        weight = f"{path}.weight"
        is_stored_smaller = quantizer is not None and isinstance(module, nn.Linear) and is_quantizable(weight)
        eight = kept(weight) if is_stored_smaller else None
        for own, empty in list(module.named_parameters(recurse=False)):
            name = f"{path}.{own}" if path else own
            if eight is not None and name == weight:
                continue
            values = tensor(name)
            values = values if dtype is None else values.to(dtype)
            if values.shape != empty.shape:
                raise ValueError(f"{name} is {tuple(values.shape)}, but should be {tuple(empty.shape)}")
            module.register_parameter(own, Parameter(values))
        if not isinstance(module, nn.Linear):
            continue
        layer: nn.Linear = module
        if quantizer is not None and is_stored_smaller:
            layer = quantized(module, quantizer, path, eight)
            parent, _, child = path.rpartition(".")
            setattr(transformer.get_submodule(parent), child, layer)
        if block_of(path) in range(offloaded):
            layer.weight = Parameter(layer.weight.detach().cpu(), requires_grad=layer.weight.requires_grad)
