"""Writing LoRA files so that every program that reads them computes what was trained.

Source: docs/explanation/model-files.md#a-lora-of-ltx, #a-dora-of-ltx

A plain LoRA has the original checkpoint's names with the prefix "diffusion_model." and the suffixes `.lora_A.weight`
and `.lora_B.weight`; alpha / rank is folded into B, since no reader applies it. ComfyUI, diffusers and ltx-pipelines
read it.

A DoRA has diffusers' names with the prefix "transformer.", and also `.lora_magnitude_vector`. diffusers reads it and
computes what was trained. No layout makes the other programs do so: ltx-pipelines only adds B @ A, and ComfyUI divides
its dora_scale by the length of the base's row, while training divides by that of the adapted row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltxcore.errors import CheckpointError, Problem, listed
from ltxcore.files import replacing
from ltxcore.models.adapters import ADAPTER, adapters, has_magnitude, magnitude_name, pair_names, pair_shapes
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_names import MAGNITUDE, PREFIX_OF_DIFFUSERS
from ltxcore.models.parameter_names import LORA_PREFIX, to_original, within_block
from ltxcore.safetensors_files import Stored, write_tensors


def save_lora(
    backbone: LTXBackbone, path: Path, *, metadata: Mapping[str, str], dtype: torch.dtype, weight: Callable[[str], Tensor] | None = None
) -> None:
    """Export the adapters: completely and verified, or not at all.

    After writing, the file is opened again: every name must be that of a module of the base, with the right shape, and
    every adapter must change something. The metadata records the base, its fingerprint and generation, the rank, alpha
    (for information only, since it is folded into B), the adapted modules and the timestep rule, besides what the
    caller adds.

    Args:
        backbone: the backbone, with adapters.
        path: the file to write; an existing file is replaced only once the new one has been verified.
        metadata: further metadata of the file: trigger word, reference factors.
        dtype: the dtype of the tensors.
        weight: returns a whole parameter by its name in `backbone.named_parameters()`, if this process holds only a part of each;
            None if it holds all.

    Raises:
        CheckpointError: there are no adapters, the metadata contradicts them, an adapter changes nothing or is not finite, or the
            disk is full.
    """
    layers = adapters(backbone)
    if not layers:
        raise CheckpointError("there is no LoRA to save: the backbone has no adapters", where=str(path))
    said = {"format": "pt", **metadata, **_own_metadata(backbone, metadata, path)}
    tensors: dict[str, Stored] = {}
    for name, layer in layers.items():
        tensors |= _stored(name, layer, dtype, weight or backbone.get_parameter)
    with replacing(path) as part:
        write_tensors(part, tensors, said)
        check_lora(part, backbone.blueprint.shapes, shown=path)


def _stored(module: str, layer: Any, dtype: torch.dtype, weight: Callable[[str], Tensor]) -> dict[str, Stored]:
    """Return the tensors to write for a module: A and B, with alpha / rank folded into B so that B @ A is the whole
    change, and the magnitude of a DoRA.

    Source: docs/explanation/arithmetic.md#folded-alpha
    """
    dora, scale = has_magnitude(layer), float(layer.scaling[ADAPTER])
    base = f"{PREFIX_OF_DIFFUSERS}{module}" if dora else f"{LORA_PREFIX}{to_original(module)}"
    (a_name, b_name), (a_shape, b_shape) = pair_names(module), pair_shapes(layer)
    tensors = {
        f"{base}.lora_A.weight": Stored(dtype, a_shape, lambda: weight(a_name).detach().float()),
        f"{base}.lora_B.weight": Stored(dtype, b_shape, lambda: weight(b_name).detach().float() * scale),
    }
    if dora:
        tensors[f"{base}.{MAGNITUDE}"] = Stored(dtype, b_shape[:1], lambda: weight(magnitude_name(module)).detach().float())
    return tensors


def check_lora(path: Path, shapes: Mapping[str, tuple[int, ...]], *, shown: Path | None = None) -> None:
    """Refuse an exported LoRA that does not fit the base (`shapes`, in diffusers' names) or in which an adapter changes
    nothing.

    In a DoRA, a change of lengths alone counts.

    Raises:
        CheckpointError: for every module at fault.
    """
    where = str(shown or path)
    found = read_lora(path, where)
    problems = []
    for name, (a, b) in found.pairs.items():
        out_in = shapes.get(f"{name}.weight")
        finite = all(bool(tensor.isfinite().all()) for tensor in (a, b, *([found.magnitudes[name]] if found.magnitudes else [])))
        if out_in != (b.shape[0], a.shape[1]):
            problems.append(Problem(f"{to_original(name)} is {[b.shape[0], a.shape[1]]}, but in the base {shape_shown(out_in)}", where))
        elif not finite:
            problems.append(Problem(f"the adapter of {to_original(name)} has values that are not finite", where))
        elif not found.magnitudes and not bool((a.abs().amax(dim=1) * b.abs().amax(dim=0)).any()):
            problems.append(Problem(f"the adapter of {to_original(name)} changes nothing: its product is zero", where))
    if problems:
        raise CheckpointError.of(problems)


def shape_shown(shape: tuple[int, ...] | None) -> str:
    """Format the shape of a base's matrix for a message."""
    return "no such module" if shape is None else str(list(shape))


def _own_metadata(backbone: LTXBackbone, given: Mapping[str, str], path: Path) -> dict[str, str]:
    layers = adapters(backbone)
    first = max(layers.values(), key=lambda layer: int(layer.r[ADAPTER]))
    rank, alpha = int(first.r[ADAPTER]), float(first.lora_alpha[ADAPTER])
    own = {
        "base_model": backbone.info.name,
        "base_fingerprint": backbone.fingerprint,
        "generation": backbone.info.generation,
        "rank": str(rank),
        "alpha": f"{alpha:g}",
        "alpha_is_folded": "true",
        "target_modules": json.dumps(sorted({within_block(to_original(name)) for name in layers})),
        "timestep_rule": backbone.timestep_rule,
    }
    if abs(float(first.scaling[ADAPTER]) - alpha / rank) > 1e-9 * alpha:
        own["use_rslora"] = "true"
    if has_magnitude(first):
        own["use_dora"] = "true"
    clash = sorted(key for key in own.keys() & given.keys() if own[key] != given[key])
    if clash:
        raise CheckpointError(f"metadata that the LoRA determines was given with other values: {listed(clash)}", where=str(path))
    return own
