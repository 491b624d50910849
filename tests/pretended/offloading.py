"""Checks of blocks in CPU memory: how many of them take memory of a device that is behind, and how much CPU memory pinning takes."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import nn

from helpers.device_record import QUEUE, RECORD
from helpers.golden_connectors import load_connectors, write_connectors
from helpers.golden_models import BOTH, random_input
from ltxcore.models.load_base import load_backbone
from ltxcore.models.offload import place
from ltxcore.protocols import ModelInput, Text
from pretended import tensors
from pretended.tensors import DEVICE


def passes(offloaded: int) -> dict[str, Any]:
    """The most blocks whose copies take memory at once in a pass without gradients; and how often the program waited for the device to catch up, there
    and in a step, in the backward part of which a wrapper's memory cannot be seen to go."""
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=True, device=DEVICE, offloaded=offloaded)
    RECORD.clear()
    place(backbone, DEVICE, offloaded)
    pinned = len(RECORD.pinned)
    backbone.transformer.requires_grad_(False)
    layers = len([module for module in backbone.transformer.transformer_blocks[0].modules() if isinstance(module, nn.Linear)])
    video, audio = (random_input(name, 6).to(DEVICE) for name in ("video", "audio"))
    found: dict[str, Any] = {"pinned": pinned / layers}
    for name in ("pass", "step"):
        QUEUE.clear()
        RECORD.clear()
        _run(backbone, video, audio, with_gradients=name == "step")
        found[name] = {"held": QUEUE.most[0] / layers, "waits": sum(event == ("synchronize",) for event in RECORD.events)}
    return found


def _run(backbone: Any, video: ModelInput, audio: ModelInput, *, with_gradients: bool) -> None:
    with torch.set_grad_enabled(with_gradients):
        tokens = video.tokens.detach().requires_grad_(with_gradients)
        object.__setattr__(video, "tokens", tokens)
        out = backbone(video, audio)
        if with_gradients:
            (out["video"].square().mean() + out["audio"].square().mean()).backward()


def pinning(offloaded: int) -> dict[str, int]:
    """Bytes of matrices that were pinned, and the most bytes of those in ordinary memory that were still there when as many were pinned already."""
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32)
    alive: dict[int, int] = {}
    for block in list(backbone.transformer.transformer_blocks)[:offloaded]:
        for layer in (module for module in block.modules() if isinstance(module, nn.Linear)):
            array = np.array(layer.weight.detach().numpy())
            alive[id(array)] = array.nbytes
            weakref.finalize(array, alive.pop, id(array))
            layer.weight = nn.Parameter(torch.from_numpy(array), requires_grad=False)
            del array
    whole, most = sum(alive.values()), 0
    RECORD.clear()
    pin = tensors.pin

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal most
        made = pin(tensor)
        most = max(most, sum(alive.values()) + sum(RECORD.pinned) - whole)
        return made

    torch.Tensor.pin_memory = lambda self, device=None: pinned(self)  # type: ignore[method-assign, assignment]
    try:
        place(backbone, DEVICE, offloaded)
    finally:
        torch.Tensor.pin_memory = lambda self, device=None: pin(self)  # type: ignore[method-assign, assignment]
    return {"pinned": sum(RECORD.pinned), "twice": most, "largest": max(RECORD.pinned), "left": sum(alive.values())}


def connectors(are_away: bool) -> dict[str, Any]:
    """How far what connectors make of text on the device is from the same on the CPU, and where it and their weights are afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = attrs.evolve(load_connectors(write_connectors(Path(folder) / "connectors.safetensors"), BOTH), are_away=are_away)
    features = {
        name: torch.randn(1, 16, width, generator=torch.Generator().manual_seed(0)) for name, width in (("video", 64), ("audio", 32))
    }
    mask = (torch.arange(16) >= 6).long()[None]
    expected = loaded(Text(features, mask)).features
    times = [loaded(Text({name: each.to(DEVICE) for name, each in features.items()}, mask.to(DEVICE))).features for _ in range(2)]
    return {
        # The device computes attention by another kernel, whose last bits differ.
        "off": max(float((found[name].cpu() - expected[name]).abs().max()) for found in times for name in BOTH),
        "on": sorted({str(found[name].device) for found in times for name in BOTH}),
        "weights": sorted({str(weight.device) for module in loaded.modules.values() for weight in module.parameters()}),
    }
