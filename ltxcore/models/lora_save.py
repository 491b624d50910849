"""Functions that write files of adapters so that every program that reads them computes what was trained.

Source: docs/explanation/model-files.md#a-lora-of-ltx, #a-dora-of-ltx

The type of the adapters decides which tensors a file has for a module. It also decides whether modules have the original checkpoint's
paths, with the prefix "diffusion_model.", or diffusers' paths, with the prefix "transformer.". Alpha is folded in, since not every program
applies it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ltxcore.errors import CheckpointError, Problem, listed
from ltxcore.files import replacing
from ltxcore.models.adapter_types import type_of, types_with
from ltxcore.models.adapters import Layer, adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_names import written
from ltxcore.models.parameter_names import to_original, within_block
from ltxcore.safetensors_files import Stored, write_tensors


def save_lora(
    backbone: LTXBackbone,
    path: Path,
    *,
    metadata: Mapping[str, str],
    dtype: torch.dtype,
    weight: Callable[[str], Tensor] | None = None,
    all_change: bool = True,
) -> None:
    """Export the adapters completely and verified, or not at all.

    The written file is opened again: every name must belong to a module of the base and have the right shape, and every adapter must change
    something. The metadata records the base with its fingerprint and generation, the rank, alpha (for information only, since it is folded
    into B), the adapted modules and the timestep rule, and what the caller adds.

    Args:
        backbone: the backbone, with adapters.
        path: the file to write; an existing file is replaced only once the new one has been verified.
        metadata: further metadata of the file, such as the trigger word and reference factors.
        dtype: the dtype of the tensors.
        weight: a function that returns a whole parameter by its name in `backbone.named_parameters()`, if this process holds only a part of
            each parameter; None if it holds whole parameters.
        all_change: whether every adapter must change something, or only one: after few steps of a run in which samples lack a modality,
            the adapters of that modality are perhaps not trained yet.

    Raises:
        CheckpointError: there are no adapters, the metadata contradicts them, an adapter changes nothing or is not finite, or the
            disk is full.
    """
    layers = adapters(backbone)
    if not layers:
        raise CheckpointError("there is no LoRA to save: the backbone has no adapters", where=str(path))
    said = {"format": "pt", **metadata, **_own_metadata(backbone, metadata, path)}
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    read = weight or backbone.get_parameter
    tensors: dict[str, Stored] = {}
    for name, layer in layers.items():
        own = {key: names[id(tensor)] for key, tensor in layer.tensors.items()}
        tensors |= _stored(name, layer, dtype, lambda key, own=own: read(own[key]).detach().float())  # type: ignore[misc]
    with replacing(path) as part:
        write_tensors(part, tensors, said)
        check_lora(part, backbone.blueprint.shapes, layers, shown=path, all_change=all_change)


def _stored(module: str, layer: Layer, dtype: torch.dtype, weight: Callable[[str], Tensor]) -> dict[str, Stored]:
    """Return the tensors to write for a module. They are computed when they are written."""
    layout = getattr(layer.adapter, "layout", "original")

    @lru_cache(maxsize=1)
    def values() -> Mapping[str, Tensor]:
        return layer.kind.to_file({key: weight(key) for key in layer.tensors}, layer.settings)

    return {
        written(module, ending, layout): Stored(dtype, tuple(tensor.shape), partial(lambda ending: values()[ending], ending))
        for ending, tensor in _hollow(layer).items()
    }


def _hollow(layer: Layer) -> Mapping[str, Tensor]:
    """Return the tensors that a layer's adapter has in a file, as shapes on the meta device."""
    hollow = {key: torch.empty(shape, device="meta") for key, shape in layer.shapes().items()}
    return layer.kind.to_file(hollow, layer.settings)


def saved_type(backbone: LTXBackbone) -> str:
    """Return the type of the adapters in the file that `save_lora` writes; this type can differ from the run's."""
    layer = next(iter(adapters(backbone).values()))
    names = {layer.adapter.file_names[ending] for ending in _hollow(layer)}
    return type_of(names, layer.kind.metadata(layer.settings), types_with(layer.kind), "").type


def check_lora(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    layers: Mapping[str, Layer],
    *,
    shown: Path | None = None,
    all_change: bool = True,
) -> None:
    """Refuse an exported file that does not fit the base (`shapes`, in diffusers' names), or that has an adapter that changes nothing; without
    `all_change`, only if none of its adapters changes anything.

    Raises:
        CheckpointError: modules are at fault; the error names all of them.
    """
    where = str(shown or path)
    found = read_lora(path, where, types_with(next(iter(layers.values())).kind))
    problems, idle = [], []
    for name, tensors in found.modules.items():
        own, of = found.shape(name), shapes.get(f"{name}.weight")
        if not found.fits(name, of):
            problems.append(
                Problem(f"{to_original(name)} is {[own.outputs, own.inputs]} in the LoRA; in the base model: {shape_shown(of)}", where)
            )
        elif not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            problems.append(Problem(f"the adapter of {to_original(name)} has values that are not finite", where))
        elif not found.kind.changes(tensors):
            idle.append(Problem(f"the adapter of {to_original(name)} has no effect: its change of the weights is zero", where))
    problems += idle if all_change or len(idle) == len(found.modules) else []
    if problems:
        raise CheckpointError.of(problems)


def shape_shown(shape: tuple[int, ...] | None) -> str:
    """Format the shape of a base's matrix for a message."""
    return "no such module" if shape is None else str(list(shape))


def _own_metadata(backbone: LTXBackbone, given: Mapping[str, str], path: Path) -> dict[str, str]:
    layers = adapters(backbone)
    first = max(layers.values(), key=lambda layer: layer.settings.rank)
    settings = first.settings
    own = {
        "base_model": backbone.info.name,
        "base_fingerprint": backbone.fingerprint,
        "generation": backbone.info.generation,
        "rank": str(settings.rank),
        "alpha": f"{settings.rank if settings.alpha is None else settings.alpha:g}",
        "alpha_is_folded": "true",
        "target_modules": json.dumps(sorted({within_block(to_original(name)) for name in layers})),
        "timestep_rule": backbone.timestep_rule,
        **first.kind.metadata(settings),
    }
    clash = sorted(key for key in own.keys() & given.keys() if own[key] != given[key])
    if clash:
        raise CheckpointError(f"metadata that the LoRA determines was given with different values: {listed(clash)}", where=str(path))
    return own
