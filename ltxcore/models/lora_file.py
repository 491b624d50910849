"""Functions that read the adapters in a file, in any layout that `lora_names` knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.adapters import AdapterShape
from ltxcore.errors import CheckpointError, listed, many
from ltxcore.headers import Slots
from ltxcore.model_config import AGAIN, json_object
from ltxcore.models.adapter_types import Adapter, Types
from ltxcore.models.lora_header import lora_header
from ltxcore.models.lora_names import OF_DIFFUSERS, PREFIX_OF_DIFFUSERS
from ltxcore.models.parameter_names import is_of_connectors, to_original
from ltxcore.safetensors_files import open_tensors, read_header

Tensors = Mapping[str, Tensor]

PATTERN = "alpha_pattern"
"""The setting with the alphas of single modules, by regular expressions for their paths."""

FOR_CONNECTORS = "Use the file under model.loras, with `ltx sample --lora`, or merge it with `ltx lora merge`."
"""The possible uses of a file with adapters of the text connectors."""

_READ = re.compile(r"(?:[\w.^$*+-]|\\[.d]|\[(?:\w+|\d-\d)\])+")
"""The regular expressions that are matched: those without groups, which could take forever."""

_REPEATS = 2
"""The most repetitions in a regular expression, for the same reason."""


@attrs.frozen(eq=False)
class LoraFile:
    """The change that a file of adapters makes to a model.

    Attributes:
        kind: the type of the adapters.
        modules: the float32 tensors of every module of the transformer (in diffusers' names), with any alpha folded in.
        metadata: the file's metadata.
        connectors: the same for the modules of the text connectors.
    """

    kind: Adapter
    modules: Mapping[str, Tensors]
    metadata: Mapping[str, str]
    connectors: Mapping[str, Tensors] = attrs.field(factory=dict)

    @property
    def everywhere(self) -> Mapping[str, Tensors]:
        """The tensors of every module of the transformer and of the text connectors."""
        return {**self.modules, **self.connectors}

    def shape(self, module: str) -> AdapterShape:
        """Return the rank, inputs and outputs of a module's adapter."""
        found = self.kind.adapter.measure(shapes_of((self.connectors if module in self.connectors else self.modules)[module]))
        if found is None:
            raise CheckpointError(f"the tensors of {to_original(module)} do not fit each other")
        return found

    def fits(self, module: str, shape: tuple[int, ...] | None) -> bool:
        """Return whether a module's adapter fits a matrix of this shape; None stands for a module that a model does not have."""
        own = self.shape(module)
        return shape is not None and len(shape) == 2 and own.outputs in (None, shape[0]) and own.inputs in (None, shape[1])


def biases_in(found: LoraFile) -> dict[str, Tensor]:
    """Return the changes that a file makes to biases, by module."""
    of = getattr(found.kind.adapter, "bias", lambda tensors: None)
    return {name: added for name, tensors in found.everywhere.items() if (added := of(tensors)) is not None}


def refuse_biases(found: LoraFile, where: str) -> None:
    """Refuse a file that changes biases, for a use in which only matrices can change.

    Raises:
        CheckpointError: the file changes biases; the error names the modules.
    """
    biases = biases_in(found)
    if biases:
        what = f"{many(len(biases), 'module has', 'modules have')} a changed bias, which would be lost here: {listed(map(to_original, biases))}"
        raise CheckpointError(what, where=where, remedy="Merge the file into the model, and use that model.")


def shapes_of(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def read_lora(path: Path, where: str, types: Types | None = None, *, connectors: bool = False) -> LoraFile:
    """Read a file of adapters.

    Args:
        path: the file.
        where: the file, as a message names it.
        types: the known classes of adapters, by name; by default, those of the installed plugins.
        connectors: whether the file may have adapters of the text connectors.

    Raises:
        CheckpointError: as in `lora_header`; the metadata cannot be read; or the file has adapters of the text connectors, and may not.
    """
    header = read_header(path)
    with open_tensors(header) as file:
        return _read(header, lambda name: file.get_tensor(name).float(), where, types, connectors)


def sketch_lora(path: Path, where: str, types: Types | None = None, *, connectors: bool = False) -> LoraFile:
    """Read only the header of a file of adapters. The tensors are on the meta device, with shapes but no values.

    Raises:
        CheckpointError: as in `read_lora`.
    """
    header = read_header(path)
    return _read(header, lambda name: torch.empty(header.slots[name].shape, device="meta"), where, types, connectors)


def check_finite(found: LoraFile, where: str) -> None:
    """Refuse adapters with values that are not finite.

    Raises:
        CheckpointError: the file has such adapters; the error names all of them.
    """
    infinite = [
        to_original(name) for name, own in found.everywhere.items() if not all(bool(each.isfinite().all()) for each in own.values())
    ]
    if infinite:
        what = f"{many(len(infinite), 'adapter has', 'adapters have')} values that are not finite: {listed(infinite)}"
        raise CheckpointError(what, where=where, remedy=AGAIN)


def _read(header: Slots, tensor: Callable[[str], Tensor], where: str, types: Types | None, connectors: bool) -> LoraFile:
    found = lora_header(header, where, types)
    about = _said_by_diffusers(header.metadata, where)
    try:
        modules = {
            module: _of_file(found.kind, {name: tensor(full) for name, full in names.items()}, about(module))
            for module, names in found.modules.items()
        }
    except CheckpointError as error:
        raise CheckpointError.of([attrs.evolve(problem, where=where) for problem in error.problems]) from error
    apart = {name: modules.pop(name) for name in list(modules) if is_of_connectors(name)}
    if apart and not connectors:
        shown = listed(map(to_original, apart))
        what = f"{many(len(apart), 'adapter is', 'adapters are')} for the text connectors, which are neither trained nor exported: {shown}"
        raise CheckpointError(what, where=where, remedy=FOR_CONNECTORS)
    return LoraFile(found.kind, modules, header.metadata, apart)


def _of_file(kind: Adapter, tensors: Tensors, about: Mapping[str, Any]) -> Tensors:
    read = getattr(kind.adapter, "from_file", None)
    return tensors if read is None else dict(read(tensors, about))


def _said_by_diffusers(metadata: Mapping[str, str], where: str) -> Callable[[str], Mapping[str, Any]]:
    """Return a function that returns the adapter settings of a module, given the module's path, as diffusers wrote them to a file's
    metadata.

    The settings are the same for all modules, except for alphas in `PATTERN`. As in peft, the first key that matches the whole path, or the
    rest of the path after one of its dots, counts. The rank of a module is not read from the settings, since its tensors show it.

    Raises:
        CheckpointError: the settings cannot be read.
    """
    found = json_object(metadata.get(OF_DIFFUSERS, "{}"))
    if found is None:
        raise CheckpointError(f"the metadata under {OF_DIFFUSERS} is not a JSON object", where=where, remedy=AGAIN)
    about = {key.removeprefix(PREFIX_OF_DIFFUSERS): value for key, value in found.items()}
    alphas = _alphas(about.pop(PATTERN, None) or {}, where)

    def of_module(path: str) -> Mapping[str, Any]:
        own = [alpha for pattern, alpha in alphas if pattern.match(path)][:1]
        return {**about, "lora_alpha": own[0]} if own else about

    return of_module


def _alphas(found: Any, where: str) -> list[tuple[re.Pattern[str], Any]]:
    """Return the alphas of single modules, each with the pattern of their paths."""
    if not isinstance(found, dict):
        raise CheckpointError(f"the {PATTERN} in the metadata is not a JSON object", where=where, remedy=AGAIN)
    alphas = []
    for key, alpha in found.items():
        try:
            if not _READ.fullmatch(key) or key.count("*") + key.count("+") > _REPEATS:
                raise CheckpointError(
                    f"the {PATTERN} in the metadata has a key that is too complex: {key[:60]}",
                    where=where,
                    remedy="Export the adapters as a plain LoRA, or name the modules by their paths.",
                )
            alphas.append((re.compile(rf"(.*\.)?({key})$"), alpha))
        except re.error as error:
            what = f"the {PATTERN} in the metadata has an invalid key, {key[:60]}: {error.msg}"
            raise CheckpointError(what, where=where, remedy=AGAIN) from error
    return alphas
