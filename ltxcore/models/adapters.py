"""The adapters of a backbone: created by peft, in float32, beside the linear modules that they adapt."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Dropout, Identity, Parameter

from ltxcore.adapters import AdapterSettings
from ltxcore.models.backbone import LTXBackbone

ADAPTER = "default"
"""The name under which peft keeps the one adapter of a backbone."""


def create_adapters(
    backbone: LTXBackbone, settings: Mapping[str, AdapterSettings], *, seed: int, rslora: bool = False, dora: bool = False
) -> None:
    """Freeze the base and put a float32 adapter beside each module of `settings` (paths in the transformer).

    A starts uniform within 1 / sqrt(inputs), drawn from `seed` and the module's name; B starts at 0 and a magnitude at
    that of the base, so that the model's predictions do not change at first.

    Args:
        backbone: the backbone, without adapters.
        settings: the rank, alpha and dropout of each module's adapter.
        seed: the seed of A's first values.
        rslora: whether alpha is divided by the root of the rank. Source: rsLoRA, arXiv 2312.03732.
        dora: whether the length of each row of an adapted matrix is learned separately from its direction. Source: DoRA, arXiv 2402.09353.

    Source: docs/explanation/arithmetic.md#weight-of-a-lora, #dora
    """
    from peft import LoraConfig, inject_adapter_in_model

    backbone.requires_grad_(False)
    is_sketch = backbone.device.type == "meta"  # on the meta device there are only shapes and no values to set
    by_root = rslora and any(each.alpha is not None for each in settings.values())
    most = max(settings.values(), key=lambda each: each.rank)
    config = LoraConfig(
        r=most.rank,
        lora_alpha=_alpha(most, by_root),
        lora_dropout=most.dropout,
        target_modules=list(settings),
        rank_pattern=_pattern(settings, lambda each: each.rank, most),
        alpha_pattern=_pattern(settings, lambda each: _alpha(each, by_root), most),
        use_rslora=by_root,
        use_dora=dora,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):  # peft initialises from the global generator, whose state is restored
        inject_adapter_in_model(config, backbone.transformer, adapter_name=ADAPTER, low_cpu_mem_usage=is_sketch)
    for name, layer in adapters(backbone).items():  # peft knows only one dropout for all
        if settings[name].dropout != most.dropout:
            layer.lora_dropout[ADAPTER] = Dropout(settings[name].dropout) if settings[name].dropout else Identity()
    if is_sketch:
        return
    for name, layer in adapters(backbone).items():
        a, b = pair(layer)
        key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
        bound = a.shape[1] ** -0.5
        # The base's matrix may be in host memory or have another dtype; the adapter does not follow it.
        a.data = (torch.rand(a.shape, generator=generator) * 2 * bound - bound).to(backbone.device)
        b.data = torch.zeros(b.shape, device=backbone.device)
        if dora:
            magnitude(layer).data = row_lengths(base_weight(layer)).to(backbone.device)


def _alpha(settings: AdapterSettings, by_root: bool) -> float:
    """Return the alpha that peft is given, which divides it by the rank or by the root of the rank."""
    if settings.alpha is not None:
        return settings.alpha
    return settings.rank**0.5 if by_root else settings.rank


def _pattern(settings: Mapping[str, AdapterSettings], value: Callable[[AdapterSettings], float], most: AdapterSettings) -> dict[str, float]:
    """Return what differs from `most` as peft takes it: by regular expressions of paths. One expression has all modules
    of a value, since peft matches every module with every expression.
    """
    modules: dict[float, list[str]] = {}
    for name, each in settings.items():
        if value(each) != value(most):
            modules.setdefault(value(each), []).append(re.escape(name))
    return {f"^(?:{'|'.join(names)})$": found for found, names in modules.items()}


def adapters(backbone: LTXBackbone) -> dict[str, Any]:
    """Return peft's layers, sorted by the path in the transformer of the module that each adapts."""
    from peft.tuners.lora import LoraLayer

    found = {name: module for name, module in backbone.transformer.named_modules() if isinstance(module, LoraLayer)}
    return dict(sorted(found.items()))


def pair(layer: Any) -> tuple[Parameter, Parameter]:
    """Return A `[rank, inputs]` and B `[outputs, rank]` of an adapter."""
    return layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight


def has_magnitude(layer: Any) -> bool:
    """Return whether an adapter is a DoRA adapter."""
    return bool(layer.use_dora[ADAPTER])


def magnitude(layer: Any) -> Parameter:
    """Return the learned length of each row of the matrix that a DoRA adapts, `[outputs]`."""
    found: Parameter = layer.lora_magnitude_vector[ADAPTER].weight
    return found


def adapter_parameters(layer: Any) -> tuple[Parameter, ...]:
    """Return every parameter of an adapter that can be trained: A, B and, for a DoRA, the magnitude."""
    return (*pair(layer), magnitude(layer)) if has_magnitude(layer) else pair(layer)


def base_weight(layer: Any) -> Tensor:
    """Return the matrix that an adapter adapts, `[outputs, inputs]`, dequantized and detached."""
    from peft.utils.integrations import dequantize_module_weight

    weight: Tensor = dequantize_module_weight(layer.get_base_layer())
    return weight.detach()


def row_lengths(weight: Tensor) -> Tensor:
    """Return the length of each row of a matrix `[outputs, inputs]`, `[outputs]`, float32."""
    return torch.linalg.norm(weight.float(), dim=1)


def pair_names(module: str) -> tuple[str, str]:
    """Return the names of a module's A and B in `backbone.named_parameters()`; `module` is a path in the transformer."""
    return f"transformer.{module}.lora_A.{ADAPTER}.weight", f"transformer.{module}.lora_B.{ADAPTER}.weight"


def magnitude_name(module: str) -> str:
    """Return the name of a module's magnitude in `backbone.named_parameters()`."""
    return f"transformer.{module}.lora_magnitude_vector.{ADAPTER}.weight"


def pair_shapes(layer: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the full shapes of A and B, even if several processes hold a part of each."""
    rank = int(layer.r[ADAPTER])
    return (rank, int(layer.in_features)), (int(layer.out_features), rank)
