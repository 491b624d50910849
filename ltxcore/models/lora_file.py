"""LoRA files: written by the export contract (design section 8), read in the layouts that are about.

Written: names of the original checkpoint behind "diffusion_model.", `.lora_A.weight` and `.lora_B.weight`, alpha / rank folded into B since
no reader applies it. Read: the same with or without `.alpha` (as ltx-trainer and ComfyUI write it), and the layout of diffusers, whose
names begin with "transformer.".
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
from ltxcore.models.adapters import ADAPTER, adapters, create_adapters, pair, pair_names, pair_shapes
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.files import Stored, open_tensors, read_header, write_tensors
from ltxcore.models.keys import LORA_PREFIX, to_diffusers, to_original
from ltxcore.models.streams import is_needed

_PREFIXES = ("diffusion_model.", "model.diffusion_model.", "transformer.")
_A, _B, _ALPHA = "lora_A", "lora_B", "alpha"
_SUFFIXES = {".lora_A.weight": _A, ".lora_B.weight": _B, ".lora_down.weight": _A, ".lora_up.weight": _B, ".alpha": _ALPHA}
_OF_DIFFUSERS = "lora_adapter_metadata"

Pairs = dict[str, tuple[Tensor, Tensor]]


def save_lora(
    backbone: LTXBackbone, path: Path, *, metadata: Mapping[str, str], dtype: torch.dtype, weight: Callable[[str], Tensor] | None = None
) -> None:
    """Export the adapters; whole and verified, or not at all.

    After writing, the file is opened again: every name must be a module of the base, of the right shape, and every pair must change
    something. The metadata gets the base, its fingerprint and generation, rank, alpha (for information: it is folded into B), the adapted
    modules and the timestep rule, beside what the caller adds.

    Args:
        backbone: with adapters.
        path: of the file; replaced only by a file that is right.
        metadata: what else the file says: trigger word, reference factors.
        dtype: of the tensors.
        weight: gives a parameter by its name in `backbone.named_parameters()`, where this process holds only a part of it; none: it holds all.

    Raises:
        CheckpointError: no adapters; metadata that contradicts the adapters; an adapter that changes nothing or is not finite; no room.
    """
    layers = adapters(backbone)
    if not layers:
        raise CheckpointError("there is no LoRA to save: the backbone has no adapters", where=str(path))
    said = {"format": "pt", **metadata, **_own_metadata(backbone, metadata, path)}
    tensors: dict[str, Stored] = {}
    for name, layer in layers.items():
        tensors |= _stored_pair(name, layer, dtype, weight or backbone.get_parameter)
    with replacing(path) as part:
        write_tensors(part, tensors, said)
        check_lora(part, backbone.blueprint.shapes, shown=path)


def _stored_pair(module: str, layer: Any, dtype: torch.dtype, weight: Callable[[str], Tensor]) -> dict[str, Stored]:
    """A and B, with alpha / rank in B, so that B @ A is all that the adapter adds."""
    base, scale = f"{LORA_PREFIX}{to_original(module)}", float(layer.scaling[ADAPTER])
    (a_name, b_name), (a_shape, b_shape) = pair_names(module), pair_shapes(layer)
    return {
        f"{base}.lora_A.weight": Stored(dtype, a_shape, lambda: weight(a_name).detach().float()),
        f"{base}.lora_B.weight": Stored(dtype, b_shape, lambda: weight(b_name).detach().float() * scale),
    }


def check_lora(path: Path, shapes: Mapping[str, tuple[int, ...]], *, shown: Path | None = None) -> None:
    """Refuse an exported LoRA that does not fit the base (`shapes`, names of diffusers) or in which a pair changes nothing.

    Raises:
        CheckpointError: for every module at fault.
    """
    where = str(shown or path)
    problems = []
    for name, (a, b) in read_pairs(path, where).items():
        out_in = shapes.get(f"{name}.weight")
        if out_in != (b.shape[0], a.shape[1]):
            problems.append(Problem(f"{to_original(name)} is {[b.shape[0], a.shape[1]]} and in the base {_shape(out_in)}", where))
        elif not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
            problems.append(Problem(f"the adapter of {to_original(name)} has values that are not finite", where))
        elif not bool((a.abs().amax(dim=1) * b.abs().amax(dim=0)).any()):
            problems.append(Problem(f"the adapter of {to_original(name)} changes nothing: its product is zero", where))
    if problems:
        raise CheckpointError.of(problems)


def load_lora(backbone: LTXBackbone, path: Path) -> None:
    """Load a LoRA file: into the adapters that the backbone has, which it must fit exactly, or into new ones as the file has them.

    Raises:
        CheckpointError: a name that is not known, a pair that is not whole, another generation, modules or shapes that are not the
            base's, modules of a modality the backbone does not have, or others than those of the adapters it has.
    """
    where = str(path)
    generation = read_header(path).metadata.get("generation", backbone.info.generation)
    if generation != backbone.info.generation:
        raise CheckpointError(
            f"the LoRA was made for a model of generation {generation}, and the base is of generation {backbone.info.generation}",
            where=where,
            remedy="Use the base model that the LoRA was trained on.",
        )
    pairs = read_pairs(path, where)
    _check_modules(backbone, pairs, where)
    if not adapters(backbone):
        create_adapters(backbone, {name: a.shape[0] for name, (a, _) in pairs.items()}, alpha=None, dropout=0.0, seed=0)
    _check_fit(backbone, pairs, where)
    with torch.no_grad():
        for name, layer in adapters(backbone).items():
            (a, b), (own_a, own_b) = pairs[name], pair(layer)
            own_a.copy_(a)
            own_b.copy_(b / float(layer.scaling[ADAPTER]))


def read_pairs(path: Path, where: str) -> Pairs:
    """A and B of every module in a LoRA file, float32, with whatever alpha the file has folded into B; names of diffusers.

    Raises:
        CheckpointError: for all names that are not known and all pairs that are not whole.
    """
    found: dict[str, dict[str, Tensor]] = {}
    unknown = []
    metadata = read_header(path).metadata
    with open_tensors(path) as file:
        for name in file.names():
            module, role = _parsed(name)
            if role:
                found.setdefault(module, {})[role] = file.get_tensor(name).float()
            else:
                unknown.append(name)
    broken = [to_original(module) for module, roles in found.items() if not _is_pair(roles)]
    problems = [Problem(f"{len(unknown)} tensors are not part of a LoRA of this model: {listed(unknown)}", where)] if unknown else []
    if broken:
        problems.append(Problem(f"A and B are not both there, or do not fit each other, for {listed(broken)}", where))
    if not found and not unknown:
        problems.append(Problem("it holds no tensor", where))
    if problems:
        raise CheckpointError.of(problems)
    common = _alpha_of_diffusers(metadata, where)
    return {module: (roles[_A], roles[_B] * _scale(roles, common)) for module, roles in sorted(found.items())}


def _parsed(name: str) -> tuple[str, str]:
    """The module a tensor of a LoRA file belongs to, and what it is there: lora_A, lora_B, alpha, or "" for a name not known."""
    prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
    suffix = next((s for s in _SUFFIXES if name.endswith(s)), "")
    if not prefix or not suffix:
        return name, ""
    return to_diffusers(name.removeprefix(prefix).removesuffix(suffix)), _SUFFIXES[suffix]


def _is_pair(roles: Mapping[str, Tensor]) -> bool:
    a, b = roles.get(_A), roles.get(_B)
    return a is not None and b is not None and a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1]


def _scale(roles: Mapping[str, Tensor], common: float | None) -> float:
    """How often B @ A counts: alpha / rank where the file has an alpha, once where it has none."""
    alpha = float(roles[_ALPHA]) if _ALPHA in roles else common
    return 1.0 if alpha is None else alpha / roles[_A].shape[0]


def _alpha_of_diffusers(metadata: Mapping[str, str], where: str) -> float | None:
    """The alpha that a file of diffusers has in its metadata, for all modules."""
    if _OF_DIFFUSERS not in metadata:
        return None
    said = {key.removeprefix("transformer."): value for key, value in json.loads(metadata[_OF_DIFFUSERS]).items()}
    special = sorted(key for key in ("alpha_pattern", "use_rslora", "use_dora") if said.get(key))
    if special:
        raise CheckpointError(f"the LoRA needs {listed(special)}, which is not read", where=where, remedy="Export it as a plain LoRA.")
    alpha = said.get("lora_alpha")
    return None if alpha is None else float(alpha)


def _check_modules(backbone: LTXBackbone, pairs: Pairs, where: str) -> None:
    """Refuse modules that the base does not have, or whose stream this backbone does not hold."""
    shapes = backbone.blueprint.shapes
    problems = []
    wrong = [
        n for n, (a, b) in pairs.items() if shapes.get(f"{n}.weight") != (b.shape[0], a.shape[1]) or n not in backbone.blueprint.linears
    ]
    absent = [n for n in pairs if n not in set(wrong) and not is_needed(n, backbone.modalities)]
    if wrong:
        shown = (f"{to_original(n)} {[pairs[n][1].shape[0], pairs[n][0].shape[1]]} for {_shape(shapes.get(f'{n}.weight'))}" for n in wrong)
        problems.append(
            Problem(f"{len(wrong)} modules do not fit the base: {listed(shown)}", where, "Use the base model it was trained on.")
        )
    if absent:
        had = " and ".join(sorted(backbone.modalities))
        problems.append(
            Problem(
                f"{len(absent)} modules belong to a modality that this run does not have (it has {had}): "
                f"{listed(to_original(n) for n in absent)}",
                where,
                "Load the modalities that the LoRA was trained on.",
            )
        )
    if problems:
        raise CheckpointError.of(problems)


def _check_fit(backbone: LTXBackbone, pairs: Pairs, where: str) -> None:
    """Refuse a file whose modules or ranks are not those of the backbone's adapters."""
    own = {name: pair(layer)[0].shape[0] for name, layer in adapters(backbone).items()}
    problems = []
    missing, unexpected = sorted(own.keys() - pairs.keys()), sorted(pairs.keys() - own.keys())
    ranks = [n for n in own if n in pairs and pairs[n][0].shape[0] != own[n]]
    if missing:
        problems.append(Problem(f"{len(missing)} adapted modules are not in it: {listed(map(to_original, missing))}", where))
    if unexpected:
        problems.append(Problem(f"{len(unexpected)} modules in it are not adapted here: {listed(map(to_original, unexpected))}", where))
    if ranks:
        shown = (f"{to_original(n)} has rank {pairs[n][0].shape[0]} and here {own[n]}" for n in ranks)
        problems.append(Problem(f"{len(ranks)} modules have another rank: {listed(shown)}", where, "Set lora.rank as in the file."))
    if problems:
        raise CheckpointError.of(problems)


def _own_metadata(backbone: LTXBackbone, given: Mapping[str, str], path: Path) -> dict[str, str]:
    layers = adapters(backbone)
    first = next(iter(layers.values()))
    own = {
        "base_model": backbone.info.name,
        "base_fingerprint": backbone.fingerprint,
        "generation": backbone.info.generation,
        "rank": str(first.r[ADAPTER]),
        "alpha": f"{first.lora_alpha[ADAPTER]:g}",
        "alpha_is_folded": "true",
        "target_modules": json.dumps(sorted({_in_any_block(to_original(name)) for name in layers})),
        "timestep_rule": backbone.timestep_rule,
    }
    clash = sorted(key for key in own.keys() & given.keys() if own[key] != given[key])
    if clash:
        raise CheckpointError(f"metadata that the LoRA itself decides was given otherwise: {listed(clash)}", where=str(path))
    return own


def _in_any_block(module: str) -> str:
    segments = module.split(".")
    return ".".join(segments[2:] if segments[0] == "transformer_blocks" else segments)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "no such module" if shape is None else str(list(shape))
