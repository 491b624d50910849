"""The adapters of a backbone: created by peft as float32 pairs beside the linear modules that they adapt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import Parameter

from ltxcore.models.backbone import LTXBackbone

ADAPTER = "default"
"""peft's name for the one adapter that a backbone has."""


def create_adapters(backbone: LTXBackbone, ranks: Mapping[str, int], *, alpha: float | None, dropout: float, seed: int) -> None:
    """Freeze the base and put a float32 adapter beside each module of `ranks` (paths in the transformer).

    A starts uniform within 1 / sqrt(inputs), each from `seed` and its name; B starts at 0, so that the model says what it said before.

    Args:
        backbone: without adapters.
        ranks: of each module.
        alpha: an adapter counts alpha / rank times; none: once.
        dropout: probability that an adapter's input is left out in training.
        seed: of A.
    """
    from peft import LoraConfig, inject_adapter_in_model

    backbone.requires_grad_(False)
    rank = max(ranks.values())
    others = {f"^{name}$": r for name, r in ranks.items() if r != rank}
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=list(ranks),
        rank_pattern=others,
        alpha_pattern=others if alpha is None else {},
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):  # peft initialises from the global generator; it is left as it was
        inject_adapter_in_model(config, backbone.transformer, adapter_name=ADAPTER)
    for name, layer in adapters(backbone).items():
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
        bound = a.shape[1] ** -0.5
        a.data = (torch.rand(a.shape, generator=generator) * 2 * bound - bound).to(a.device)
        b.data = torch.zeros(b.shape, device=b.device)


def adapters(backbone: LTXBackbone) -> dict[str, Any]:
    """peft's layers by the path of the module they adapt, in the transformer; sorted."""
    from peft.tuners.lora import LoraLayer

    found = {name: module for name, module in backbone.transformer.named_modules() if isinstance(module, LoraLayer)}
    return dict(sorted(found.items()))


def pair(layer: Any) -> tuple[Parameter, Parameter]:
    """A `[rank, inputs]` and B `[outputs, rank]` of an adapter."""
    return layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight


def pair_names(module: str) -> tuple[str, str]:
    """The names of a module's A and B in `backbone.named_parameters()`; `module` is a path in the transformer."""
    return f"transformer.{module}.lora_A.{ADAPTER}.weight", f"transformer.{module}.lora_B.{ADAPTER}.weight"


def pair_shapes(layer: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes of A and B, also where several processes hold a part of each."""
    rank = int(layer.r[ADAPTER])
    return (rank, int(layer.in_features)), (int(layer.out_features), rank)
