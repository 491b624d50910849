"""LoRA files loaded into a backbone, as they are or as the start of a run's adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltxcore.adapters import AdapterSettings
from ltxcore.errors import CheckpointError, Problem, listed
from ltxcore.models.adapters import ADAPTER, adapters, base_weight, create_adapters, has_magnitude, magnitude, pair, row_lengths
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.blueprint import Described
from ltxcore.models.lora_file import LoraFile, Pairs, read_lora, sketch_lora
from ltxcore.models.lora_save import shape_shown
from ltxcore.models.parameter_names import is_needed, to_original
from ltxcore.safetensors_files import read_header


def fill_adapters(backbone: LTXBackbone, found: LoraFile, where: str) -> None:
    """Fill the adapters of a backbone, or new ones if it has none, with the contents of a file that `read_fitting`
    returned.

    Raises:
        CheckpointError: the file has other modules than the adapters, or larger ranks.
    """
    if not adapters(backbone):
        settings = {name: AdapterSettings(a.shape[0], alpha=None, dropout=0.0) for name, (a, _) in found.pairs.items()}
        create_adapters(backbone, settings, seed=0, dora=bool(found.magnitudes))
    _check_adapters(backbone, found, where)
    with torch.no_grad():
        for name, layer in adapters(backbone).items():
            _copy(layer, found.pairs[name], found.magnitudes.get(name))


def read_fitting(backbone: LTXBackbone, path: Path) -> LoraFile:
    """Read a LoRA file that fits the base of a backbone.

    Raises:
        CheckpointError: it cannot be read, is of another generation, or has modules that the base does not have or whose modality
            is not loaded.
    """
    check_generation(backbone, path)
    found = read_lora(path, str(path))
    check_modules(backbone, found.pairs, str(path))
    return found


def check_start(backbone: Described, path: Path, settings: Mapping[str, AdapterSettings], dora: bool) -> None:
    """Refuse a LoRA file that adapters cannot start from, as far as its header shows. Which modules no loss reaches is
    not known yet, so the file may lack some modules.

    Args:
        backbone: the backbone, without adapters; it may be on the meta device.
        path: the LoRA file.
        settings: the settings of the adapter of each of the run's LoRA targets.
        dora: whether the run's adapters also learn row lengths.

    Raises:
        CheckpointError: for everything that is wrong: as `read_fitting`, or modules that are not adapted in this run or have a
            larger rank in the file.
    """
    check_generation(backbone, path)
    found = sketch_lora(path, str(path))
    check_modules(backbone, found.pairs, str(path))
    own = {name: each.rank for name, each in settings.items() if name in found.pairs}
    problems = _misfits(own, found, dora, str(path))
    if problems:
        raise CheckpointError.of(problems)


def check_generation(backbone: Described, path: Path) -> None:
    """Refuse a LoRA file that was made, according to its metadata, for another generation of models.

    Raises:
        CheckpointError: it was.
    """
    generation = read_header(path).metadata.get("generation", backbone.info.generation)
    if generation != backbone.info.generation:
        raise CheckpointError(
            f"the LoRA was made for a model of generation {generation}, but the base is of generation {backbone.info.generation}",
            where=str(path),
            remedy="Use the base model that the LoRA was trained on.",
        )


def _copy(layer: Any, given: tuple[Tensor, Tensor], lengths: Tensor | None) -> None:
    (a, b), (own_a, own_b) = given, pair(layer)
    rank = a.shape[0]
    own_a[:rank].copy_(a)
    own_b.zero_()
    own_b[:, :rank].copy_(b / float(layer.scaling[ADAPTER]))
    if has_magnitude(layer):
        base = base_weight(layer).float()
        magnitude(layer).copy_(row_lengths(base + (b @ a).to(base.device)) if lengths is None else lengths)


def check_modules(backbone: Described, pairs: Pairs, where: str) -> None:
    """Refuse modules that the base does not have, or whose stream this backbone does not hold.

    Raises:
        CheckpointError: there are such modules; the error names all of them.
    """
    shapes = backbone.blueprint.shapes
    problems = []
    wrong = [
        n for n, (a, b) in pairs.items() if shapes.get(f"{n}.weight") != (b.shape[0], a.shape[1]) or n not in backbone.blueprint.linears
    ]
    absent = [n for n in pairs if n not in set(wrong) and not is_needed(n, backbone.modalities)]
    if wrong:
        shown = (
            f"{to_original(n)} {[pairs[n][1].shape[0], pairs[n][0].shape[1]]} for {shape_shown(shapes.get(f'{n}.weight'))}" for n in wrong
        )
        what = f"{len(wrong)} modules do not fit the base, which is of generation {backbone.info.generation}: {listed(shown)}"
        problems.append(Problem(what, where, "Use the base model it was trained on."))
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


def _check_adapters(backbone: LTXBackbone, found: LoraFile, where: str) -> None:
    """Refuse a file whose modules differ from those of the backbone's adapters, or that does not fit into them."""
    layers = adapters(backbone)
    own = {name: pair(layer)[0].shape[0] for name, layer in layers.items()}
    problems = _misfits(own, found, all(has_magnitude(layer) for layer in layers.values()), where)
    if problems:
        raise CheckpointError.of(problems)


def _misfits(own: Mapping[str, int], found: LoraFile, dora: bool, where: str) -> list[Problem]:
    """Find why a file does not fit into adapters of these ranks."""
    pairs = found.pairs
    problems = []
    missing, unexpected = sorted(own.keys() - pairs.keys()), sorted(pairs.keys() - own.keys())
    wider = [n for n in own if n in pairs and pairs[n][0].shape[0] > own[n]]
    if missing:
        problems.append(
            Problem(
                f"{len(missing)} adapted modules are missing from it: {listed(map(to_original, missing))}",
                where,
                "Set lora.target_modules to those of the file.",
            )
        )
    if unexpected:
        problems.append(
            Problem(
                f"{len(unexpected)} modules in it are not adapted here: {listed(map(to_original, unexpected))}",
                where,
                "Set lora.target_modules to those of the file.",
            )
        )
    if wider:
        shown = (f"{to_original(n)} has rank {pairs[n][0].shape[0]}, but {own[n]} here" for n in wider)
        problems.append(
            Problem(
                f"{len(wider)} modules have a greater rank: {listed(shown)}",
                where,
                f"Set lora.rank = {max(pairs[n][0].shape[0] for n in wider)}.",
            )
        )
    if found.magnitudes and not dora:
        problems.append(Problem("it is a DoRA, but the adapters here are not", where, "Set lora.use_dora = true."))
    return problems
