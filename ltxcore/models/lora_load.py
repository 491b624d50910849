"""Functions that load files of adapters into a backbone, to use them unchanged or to start a run's adapters from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltxcore.adapters import AdapterSettings
from ltxcore.config.render import value_text
from ltxcore.config.tables import plain
from ltxcore.errors import CheckpointError, Problem, listed, many
from ltxcore.models.adapter_types import PARAMS, Adapter, types_with
from ltxcore.models.adapters import Layer, adapters, create_adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.blueprint import Described
from ltxcore.models.lora_file import LoraFile, check_finite, read_lora, shapes_of, sketch_lora
from ltxcore.models.lora_save import shape_shown
from ltxcore.models.parameter_names import is_needed, to_original
from ltxcore.safetensors_files import read_header


def fill_adapters(backbone: LTXBackbone, found: LoraFile, where: str) -> None:
    """Fill the adapters of a backbone from a file that `read_fitting` returned. If the backbone has no adapters, they are made.

    Raises:
        CheckpointError: the file's modules differ from those of the backbone's adapters, or the file's adapters have larger ranks or a
            different type.
    """
    if not adapters(backbone):
        settings = {name: AdapterSettings(found.shape(name).rank, alpha=None, dropout=0.0) for name in found.modules}
        create_adapters(backbone, settings, found.kind, seed=0)
    else:
        _check_adapters(backbone, found, where)
    with torch.no_grad():
        for name, layer in adapters(backbone).items():
            fill_layer(layer, found.modules[name])


def fill_layer(layer: Layer, tensors: Mapping[str, Tensor]) -> None:
    """Fill the adapter of one layer with the tensors of a module in a file."""
    own = getattr(layer.adapter, "fill", None)
    if own is not None:
        own(layer.module, layer.linear, tensors)
        return
    for name, tensor in layer.tensors.items():
        tensor.copy_(tensors[name])


def read_fitting(backbone: LTXBackbone, path: Path, run: Adapter | None = None) -> LoraFile:
    """Read a file of adapters that fits the base of a backbone; `run` is the type of the run's adapters.

    Raises:
        CheckpointError: the file cannot be read, is for another generation, has modules that the base lacks or that are of a
            modality that is not loaded, or has values that are not finite.
    """
    check_generation(backbone, path)
    found = read_lora(path, str(path), types_with(run))
    check_finite(found, str(path))
    check_modules(backbone, found, found.modules, str(path))
    return found


def check_start(backbone: Described, path: Path, settings: Mapping[str, AdapterSettings], kind: Adapter) -> None:
    """Refuse a file of adapters that a run cannot start from, as far as the file's header shows this.

    The file may lack some modules, since it is not known yet which modules no loss reaches.

    Args:
        backbone: the backbone, without adapters; it may be on the meta device.
        path: the file.
        settings: the settings of the adapter for each target module of the run.
        kind: the type of the run's adapters.

    Raises:
        CheckpointError: as in `read_fitting`, or modules in the file are not adapted in this run, have a larger rank, or have another type
            of adapters; the error names everything that is wrong.
    """
    check_generation(backbone, path)
    found = sketch_lora(path, str(path), types_with(kind))
    check_modules(backbone, found, found.modules, str(path))
    shapes = backbone.blueprint.shapes

    def of(name: str) -> Mapping[str, tuple[int, ...]]:
        rows, columns = shapes[f"{name}.weight"]
        return kind.adapter.shapes(rows, columns, settings[name])

    problems = _misfits({name: each for name, each in settings.items() if name in found.modules}, of, found, kind, str(path))
    if problems:
        raise CheckpointError.of(problems)


def check_generation(backbone: Described, path: Path) -> None:
    """Refuse a LoRA file that, according to its metadata, was made for another generation of models.

    Raises:
        CheckpointError: the file was made for another generation.
    """
    generation = read_header(path).metadata.get("generation", backbone.info.generation)
    if generation != backbone.info.generation:
        raise CheckpointError(
            f"the LoRA was made for a model of generation {generation}, but the base is of generation {backbone.info.generation}",
            where=str(path),
            remedy="Use the base model that the LoRA was trained on.",
        )


def check_modules(backbone: Described, found: LoraFile, modules: Iterable[str], where: str) -> None:
    """Refuse a file with modules that the base does not have, or with modules of a stream that this backbone does not hold.

    Raises:
        CheckpointError: the file has such modules; the error names all of them.
    """
    shapes = backbone.blueprint.shapes
    problems = []
    wrong = {}
    for name in modules:
        own, of = found.shape(name), shapes.get(f"{name}.weight")
        sides = [own.outputs, own.inputs]
        if name not in backbone.blueprint.linears or not found.fits(name, of):
            wrong[name] = f"{to_original(name)} {['any' if side is None else side for side in sides]} for {shape_shown(of)}"
    absent = [name for name in modules if name not in wrong and not is_needed(name, backbone.modalities)]
    if wrong:
        what = f"{many(len(wrong), 'module does not', 'modules do not')} fit the base, which is of generation {backbone.info.generation}: {listed(wrong.values())}"
        problems.append(Problem(what, where, "Use the base model that the LoRA was trained on."))
    if absent:
        had = " and ".join(sorted(backbone.modalities))
        problems.append(
            Problem(
                f"{many(len(absent), 'module belongs', 'modules belong')} to a modality that this run does not have (it has {had}): "
                f"{listed(to_original(n) for n in absent)}",
                where,
                "Load the modalities that the LoRA was trained on.",
            )
        )
    if problems:
        raise CheckpointError.of(problems)


def _check_adapters(backbone: LTXBackbone, found: LoraFile, where: str) -> None:
    """Refuse a file whose modules differ from those of the backbone's adapters, or whose adapters do not fit into the backbone's."""
    layers = adapters(backbone)
    own, kind = {name: layer.settings for name, layer in layers.items()}, next(iter(layers.values())).kind
    problems = _misfits(own, lambda name: layers[name].shapes(), found, kind, where)
    if problems:
        raise CheckpointError.of(problems)


def _misfits(
    own: Mapping[str, AdapterSettings],
    shapes: Callable[[str], Mapping[str, tuple[int, ...]]],
    found: LoraFile,
    kind: Adapter,
    where: str,
) -> list[Problem]:
    """Return the problems of a file that does not fit into adapters of this type with these settings and shapes."""
    problems = []
    missing, unexpected = sorted(own.keys() - found.modules.keys()), sorted(found.modules.keys() - own.keys())
    if missing:
        problems.append(
            Problem(
                f"{many(len(missing), 'adapted module is', 'adapted modules are')} missing from this file: {listed(map(to_original, missing))}",
                where,
                "Set lora.target_modules to the modules in the file.",
            )
        )
    if unexpected:
        problems.append(
            Problem(
                f"{many(len(unexpected), 'module in this file is', 'modules in this file are')} not adapted in this run: {listed(map(to_original, unexpected))}",
                where,
                "Set lora.target_modules to the modules in the file.",
            )
        )
    if not {name for tensors in found.modules.values() for name in tensors} <= kind.names or not getattr(kind.adapter, "takes_file", True):
        what = f'the adapters in this file are of the type "{found.kind.type}", but this run uses the type "{kind.type}"'
        return [*problems, Problem(what, where, f'Set lora.type = "{found.kind.type}".')]
    both = [name for name in own if name in found.modules]
    wider = [name for name in both if found.shape(name).rank > own[name].rank]
    if wider:
        shown = (f"{to_original(n)} has rank {found.shape(n).rank}, but {own[n].rank} here" for n in wider)
        problems.append(
            Problem(
                f"{many(len(wider), 'module has', 'modules have')} a greater rank: {listed(shown)}",
                where,
                f"Set lora.rank = {max(found.shape(n).rank for n in wider)}.",
            )
        )
    elif found.kind.type == kind.type and PARAMS in found.metadata and plain(found.kind.adapter) != plain(kind.adapter):
        problems.append(_of_params(found.kind, kind, where))
    elif not getattr(kind.adapter, "grows", False):
        other = [name for name in both if dict(shapes(name)) != shapes_of(found.modules[name])]
        if other:
            what = f"{many(len(other), 'module has an adapter', 'modules have adapters')} of a different shape: {listed(map(to_original, other))}"
            problems.append(Problem(what, where, "Set lora.rank and lora.params to the values that the LoRA was trained with."))
    return problems


def _of_params(trained: Adapter, run: Adapter, where: str) -> Problem:
    """Return the problem of a file whose tensors may mean something else under the keys of this run."""
    theirs, ours = plain(trained.adapter), plain(run.adapter)
    differing = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    shown = (f"{key} was {_shown(theirs.get(key))}, but is {_shown(ours.get(key))} here" for key in differing)
    return Problem(f"the LoRA was trained with other lora.params: {listed(shown)}", where, f"Set lora.params = {value_text(theirs)}.")


def _shown(value: Any) -> str:
    return "not set" if value is None else value_text(value)
