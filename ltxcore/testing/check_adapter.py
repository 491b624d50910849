"""The test of a type of adapters against its protocol, on a few modules of the small model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from ltxcore.adapters import AdapterSettings
from ltxcore.config.packages import lacking
from ltxcore.models.adapter_types import Adapter, types_with
from ltxcore.models.adapters import Layer, adapters, create_adapters, weight_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import lora_parameters, save_lora
from ltxcore.models.lora_file import read_lora, shapes_of
from ltxcore.models.lora_load import fill_adapters
from ltxcore.models.offload import place
from ltxcore.models.parameter_names import to_original
from ltxcore.protocols import ModelInput
from ltxcore.quantizers import QuantizerType
from ltxcore.registry import load
from ltxcore.testing.keys import checking, note_all

MODULES: Mapping[str, AdapterSettings] = {
    "transformer_blocks.0.audio_attn1.to_k": AdapterSettings(4, alpha=8.0, dropout=0.0),
    "transformer_blocks.0.audio_ff.net.0.proj": AdapterSettings(3, alpha=3.0, dropout=0.0),
    "transformer_blocks.1.audio_ff.net.2": AdapterSettings(1, alpha=None, dropout=0.0),
}
"""The modules that the adapters are tried on, with square, tall and wide matrices and with different ranks and alphas."""

BASE, AUDIO = "tiny", frozenset({"audio"})
STEPS, RATE, WIDTH = 6, 25, 128
"""The number of latent steps of the audio, their number per second, and the width of audio tokens and of the text in the small model."""

OFFLOADED = 2
"""The number of blocks that keep their weights in host memory in one of the trials."""

SAME = 1e-4
"""The largest difference, relative to the largest value, between results that are computed in different orders."""


def check_adapter(adapter: Any, **fields: Any) -> None:
    """Check that a type of adapters does what the core relies on: adapters change nothing at first, they learn, they compute what they
    claim to on plain, quantized and offloaded weights, and they are the same after they are written to a file and read again.

    Args:
        adapter: an object of the class that `ltx_adapters` names, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("adapter", adapter, fields) as (one, findings):
        note_all(findings, _faults(Adapter(type(one).__name__, one)), f"the adapter {type(one).__name__}")


def _faults(kind: Adapter) -> Iterator[tuple[str, str]]:
    found = list(_of_shapes(kind))
    if found:
        yield from ((fault, "") for fault in found)
        return
    for quantizer in (None, *_quantizers()) if getattr(kind.adapter, "takes_quantized", True) else (None,):
        label = f"{quantizer} weights" if quantizer else "plain weights"
        yield from ((fault, label) for fault in _beside(kind, quantizer))
    for look in (_starts, _drops, _survives, _is_offloaded):
        yield from ((fault, "") for fault in look(kind))


@lru_cache(maxsize=1)
def _quantizers() -> Mapping[str, QuantizerType]:
    """Return the registered quantizers whose layers multiply by the restored matrix, with the defaults of their keys."""
    found = {}
    for name, named in load().of_kind("quantizer").items():
        required = [field for field in attrs.fields(named.value) if field.init and field.default is attrs.NOTHING]
        if not required and not getattr(named.value, "low_precision", False) and not list(lacking(named.value, name, "")):
            found[name] = named.value()
    return found


# ---------------------------------------------------------------- trying it


def _loaded(quantizer: str | None, offloaded: int) -> LTXBackbone:
    backbone = load_backbone(
        BASE,
        AUDIO,
        dtype=torch.float32,
        gradient_checkpointing=offloaded > 0,
        quantizer=None if quantizer is None else _quantizers()[quantizer],
        offloaded=offloaded,
    )
    place(backbone, torch.device("cpu"), offloaded)
    return backbone


@lru_cache(maxsize=8)
def _bare(quantizer: str | None) -> LTXBackbone:
    return _loaded(quantizer, 0)


def _backbone(kind: Adapter, quantizer: str | None = None, *, seed: int = 0, dropout: float = 0.0, offloaded: int = 0) -> LTXBackbone:
    backbone = _loaded(quantizer, offloaded) if offloaded else deepcopy(_bare(quantizer))
    settings = {name: AdapterSettings(each.rank, each.alpha, dropout) for name, each in MODULES.items()}
    create_adapters(backbone, settings, kind, seed=seed)
    return backbone


def shaken(backbone: LTXBackbone) -> LTXBackbone:
    """Change every trained tensor, so that the adapters have an effect."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draws) * 0.1)
    return backbone


def _given(layer: Layer) -> Tensor:
    return torch.randn(5, layer.linear.in_features, generator=torch.Generator().manual_seed(4))


def _are_near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= SAME * other.abs().max().clamp_min(1e-6))


# ---------------------------------------------------------------- examining it


def _of_shapes(kind: Adapter) -> Iterator[str]:
    backbone = _backbone(kind)
    for name, layer in adapters(backbone).items():
        said, has = dict(layer.shapes()), {key: tuple(tensor.shape) for key, tensor in layer.tensors.items()}
        if said != has:
            yield f"states the shapes {said} beside a matrix {[layer.linear.out_features, layer.linear.in_features]}, but has {has}"
        inside = {id(tensor) for tensor in layer.module.parameters() if tensor.requires_grad}
        beside = inside - {id(tensor) for tensor in layer.tensors.values()}
        if beside:
            yield f"trains {len(beside)} parameters that tensors() does not name"
        if layer.linear not in set(layer.module.modules()):
            yield f"replaces {name} by a module that does not contain the linear module"
        if not any(tensor.requires_grad for tensor in layer.tensors.values()):
            yield "has no tensor that is trained"


def _beside(kind: Adapter, quantizer: str | None) -> Iterator[str]:
    backbone = _backbone(kind, quantizer)
    for layer in adapters(backbone).values():
        x = _given(layer)
        if not _are_near(layer.module(x), layer.linear(x)):
            yield "changes what a module computes before it has learned anything"
    for layer in adapters(shaken(backbone)).values():
        x = _given(layer).requires_grad_()
        out = layer.module(x)
        whole = kind.adapter.weight(layer.module, weight_of(layer.linear).float())
        if tuple(whole.shape) != (layer.linear.out_features, layer.linear.in_features):
            yield f"has a weight() of shape {list(whole.shape)} for a matrix {[layer.linear.out_features, layer.linear.in_features]}"
            return
        if not _are_near(out, F.linear(x, whole, layer.linear.bias)):
            yield "does not multiply by the matrix that weight() returns"
        base = weight_of(layer.linear).float()
        if _adds(layer) and not _are_near(kind.adapter.weight(layer.module, 2 * base) - base, whole):
            yield "says that it adds the same to every matrix, but changes another matrix by something else"
        if _are_near(out, layer.linear(x)):
            yield "has no effect, whatever the values of its tensors"
        out.square().sum().backward()
        for name, tensor in layer.tensors.items():
            if tensor.requires_grad and (tensor.grad is None or not bool(tensor.grad.any())):
                yield f"has a tensor {name} that no gradient reaches"
        if x.grad is None or not bool(x.grad.any()):
            yield "passes no gradient on to its input"


def _adds(layer: Layer) -> bool:
    """Return whether an adapter says that its file makes the same change to every matrix."""
    written = layer.kind.to_file(layer.tensors, layer.settings)
    return layer.kind.adds({layer.adapter.file_names[ending]: tensor for ending, tensor in written.items()})


def _starts(kind: Adapter) -> Iterator[str]:
    with torch.random.fork_rng(devices=[]):
        first, second = (lora_parameters(_backbone(kind)) for torch_seed in range(2) if torch.manual_seed(torch_seed))
    if not all(torch.equal(value, second[name]) for name, value in first.items()):
        yield "starts differently with the same seed: draw from the generator that start() is given"
    learned = _backbone(kind)
    layers = adapters(learned).values()
    torch.stack([layer.module(_given(layer)).square().sum() for layer in layers]).sum().backward()
    for layer in layers:
        if not any(tensor.grad is not None and bool(tensor.grad.any()) for tensor in layer.tensors.values()):
            yield "starts where no gradient reaches any of its tensors, so that it can never learn"


def _drops(kind: Adapter) -> Iterator[str]:
    if not getattr(kind.adapter, "takes_dropout", True):
        return
    for layer in adapters(shaken(_backbone(kind, dropout=0.5))).values():
        x = _given(layer)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            if torch.equal(layer.module.train()(x), layer.module(x)):
                yield "does not drop anything in training; set takes_dropout = False, or use the dropout of its settings"
            if not torch.equal(layer.module.eval()(x), layer.module(x)):
                yield "drops values outside training too"


def _survives(kind: Adapter) -> Iterator[str]:
    backbone = shaken(_backbone(kind, seed=1))  # another seed than that of adapters that are made for a file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lora.safetensors"
        save_lora(backbone, path, metadata={}, dtype=torch.float32)
        found = read_lora(path, "its file", types_with(kind))
        again = deepcopy(_bare(None))
        fill_adapters(again, found, "its file")
        differing = _otherwise(
            backbone,
            again,
            "computes something else after it is written to a file and read again",
            "to_file() must fold alpha in, and numbers that are not in the file must follow from the keys of the class",
        )
        if not differing and found.kind == kind and getattr(kind.adapter, "takes_file", True):
            resumed = _backbone(kind, seed=2)
            fill_adapters(resumed, found, "its file")
            differing = _otherwise(
                backbone,
                resumed,
                "starts from a file with values that differ from those written to it",
                "if to_file() folds alpha in, a method fill() must take it out again",
            )
        yield from differing
    for tensors in found.modules.values():
        for name in tensors:
            if found.kind.adapter.measure({key: shape for key, shape in shapes_of(tensors).items() if key != name}) is not None:
                yield f"measures a file without {name} as if the file were complete"


def _otherwise(one: LTXBackbone, other: LTXBackbone, fault: str, remedy: str) -> list[str]:
    """Return a fault for the first module in which another backbone computes something else, with the size of the difference."""
    for name, layer in adapters(one).items():
        x = _given(layer)
        here, there = layer.module(x).detach(), adapters(other)[name].module(x).detach()
        if not _are_near(there, here):
            share = float((there - here).abs().max() / here.abs().max())
            at = f"rank {layer.settings.rank}, alpha {layer.settings.alpha or 'None'}"
            return [f"{fault}: at {to_original(name)} ({at}), an output differs by {share:.0%} of the largest; {remedy}"]
    return []


def _is_offloaded(kind: Adapter) -> Iterator[str]:
    """Compare the gradients of adapters with and without blocks that keep their weights in host memory."""
    results = []
    for offloaded in (0, OFFLOADED):
        backbone = shaken(_backbone(kind, offloaded=offloaded))
        backbone(None, _sound())["audio"].square().sum().backward()
        results.append({name: tensor.grad for name, tensor in lora_parameters(backbone).items() if tensor.grad is not None})
    plain, away = results
    if plain.keys() != away.keys() or any(not _are_near(away[name], value) for name, value in plain.items()):
        yield f"learns differently if {OFFLOADED} blocks keep their weights in host memory"


def _sound() -> ModelInput:
    draws = torch.Generator().manual_seed(5)
    start = torch.arange(STEPS).float().view(1, 1, STEPS, 1) / RATE
    return ModelInput(
        tokens=torch.randn(1, STEPS, WIDTH, generator=draws),
        sigma=torch.full((1,), 0.5),
        timesteps=torch.full((1, STEPS), 0.5),
        positions=torch.cat([start, start + 1 / RATE], dim=-1),
        context=torch.randn(1, STEPS, WIDTH, generator=draws),
    )
