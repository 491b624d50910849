"""Functions that find the adapters in the header of a file, in any layout that `lora_names` knows, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from ltxcore.adapters import AdapterShape
from ltxcore.errors import CheckpointError, Problem, listed, many
from ltxcore.headers import FLOATING, Slots
from ltxcore.models.adapter_types import Adapter, Types, adapter_types, endings_of, stated_type, type_of
from ltxcore.models.lora_names import parsed, unread_format
from ltxcore.models.parameter_names import to_original

OTHER_FORMAT = "Train or export it as a LoRA of the transformer, or use it in the program that made it."

UNPACKED = "Use the file before it was quantized, in bf16, float16 or float32."

FullNames = Mapping[str, Mapping[str, str]]
"""The full names of tensors, by module (in diffusers' names) and by the tensor's short name in this module."""


@attrs.frozen
class LoraHeader:
    """The adapters in a file: their type, the names of their tensors, and the shape of each module's adapter."""

    kind: Adapter
    modules: FullNames
    shapes: Mapping[str, AdapterShape]


def lora_header(found: Slots, where: str, types: Types | None = None) -> LoraHeader:
    """Find the adapters in the header of a file.

    Args:
        found: the header.
        where: the file, as a message names it.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        CheckpointError: the type of the adapters is not known; or names are unknown or mean the same tensor, or tensors of a module are
            missing, do not fit each other, or are packed, and the error names all of these.
    """
    types = adapter_types() if types is None else types
    stated_type(found.metadata, types, where)  # the names of an unknown type are unknown too, and say less
    modules: dict[str, dict[str, str]] = {}
    unknown, twice = [], []
    endings = endings_of(types)
    for full in sorted(found.slots):
        module, name = parsed(full, endings)
        if not name:
            unknown.append(full)
        elif modules.setdefault(module, {}).setdefault(name, full) != full:
            twice.append(f"{modules[module][name]} and {full}")
    problems = list(_problems_of_names(unknown, where))
    if not unknown and not modules:
        problems.append(Problem("this file holds no tensors", where))
    if twice:
        problems.append(Problem(f"several names mean the same tensor: {listed(twice)}", where, "Keep one of the names."))
    if not modules:
        raise CheckpointError.of(problems)
    kind = type_of({name for names in modules.values() for name in names}, found.metadata, types, where)
    shapes = {
        module: kind.adapter.measure({name: found.slots[full].shape for name, full in names.items()})
        for module, names in sorted(modules.items())
    }
    broken = [to_original(module) for module, shape in shapes.items() if shape is None]
    if broken:
        problems.append(Problem(f"{kind.type} tensors are missing, or do not fit each other, in these modules: {listed(broken)}", where))
    packed = [f"{name} ({slot.dtype})" for name, slot in sorted(found.slots.items()) if slot.shape and slot.dtype not in FLOATING]
    if packed:
        count = many(len(packed), "tensor is", "tensors are")
        problems.append(Problem(f"{count} packed, which is not supported in a LoRA: {listed(packed)}", where, UNPACKED))
    if problems:
        raise CheckpointError.of(problems)
    return LoraHeader(kind, {module: modules[module] for module in shapes}, {module: shape for module, shape in shapes.items() if shape})


def _problems_of_names(unknown: Iterable[str], where: str) -> Iterator[Problem]:
    """Yield a problem for each format that is known by its names but not read, and one for all other unknown names."""
    by_format: dict[str, list[str]] = {}
    for name in unknown:
        by_format.setdefault(unread_format(name), []).append(name)
    for what, names in sorted(by_format.items()):
        count = many(len(names), "tensor is", "tensors are")
        if what:
            yield Problem(f"{count} part of {what}, which ltx does not read: {listed(names)}", where, OTHER_FORMAT)
        else:
            yield Problem(f"{count} not part of a LoRA of this model: {listed(names)}", where)
