"""Functions that list the registered types of adapters, and find the type that a file belongs to, without torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.adapters import AdapterSettings, AdapterType
from ltxcore.config.tables import plain
from ltxcore.errors import CheckpointError, did_you_mean, listed
from ltxcore.model_config import AGAIN, json_object
from ltxcore.registry import Registry, load

if TYPE_CHECKING:
    from torch import Tensor

LORA = "lora"
"""The type of a run's adapters unless the run file names another type."""

TYPE, PARAMS = "adapter_type", "adapter_params"
"""The metadata keys under which a file stores its type of adapters and this type's keys, unless the type writes metadata of its own."""


Types = Mapping[str, Any]
"""Classes of adapters, by name."""


@attrs.frozen
class Adapter:
    """A type of adapters, under its registered name, with the values of its keys."""

    type: str
    adapter: AdapterType

    @property
    def names(self) -> frozenset[str]:
        """The names of the tensors that a file can hold for a module."""
        return frozenset(self.adapter.file_names.values())

    def to_file(self, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> dict[str, Tensor]:
        """Return the tensors to write for a module, by the endings of their names, given those of the adapter."""
        write = getattr(self.adapter, "to_file", None)
        return dict(tensors if write is None else write(tensors, settings))

    def changes(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors of a module in a file have any effect."""
        asked = getattr(self.adapter, "changes", None)
        return any(bool(tensor.any()) for tensor in tensors.values()) if asked is None else bool(asked(tensors))

    def adds(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors of a module in a file make the same change to every matrix."""
        asked = getattr(self.adapter, "adds", None)
        return asked is not None and bool(asked(tensors))

    def metadata(self, settings: AdapterSettings) -> dict[str, str]:
        """Return the metadata that records how an adapter of this type was trained."""
        if hasattr(self.adapter, "metadata"):
            return dict(self.adapter.metadata(settings))
        return {TYPE: self.type, PARAMS: json.dumps(plain(self.adapter))}


def adapter_types(registry: Registry | None = None) -> Types:
    """Return the classes of adapters by name: those in a registry, or by default those of the installed plugins."""
    return {name: named.value for name, named in (registry or load()).of_kind("adapter").items()}


def title_of(type: str) -> str:
    """Return the name of an installed type of adapters in plans and reports; a type that is not installed has only its registered name."""
    return str(getattr(adapter_types().get(type), "title", type))


def types_with(run: Adapter | None) -> Types:
    """Return the installed classes of adapters by name, and the class of a run's adapters, which may come from a plugin that is not
    installed.
    """
    return adapter_types() if run is None else {**adapter_types(), run.type: type(run.adapter)}


def adapter_of(type: str = LORA, **params: Any) -> Adapter:
    """Return a registered type of adapters with these values of its keys.

    Raises:
        ConfigError: there is no such type.
    """
    return Adapter(type, load().get("adapter", type).value(**params))


def endings_of(types: Types) -> dict[str, str]:
    """Return the possible endings of tensor names in files of these types, each with the name of its tensor."""
    return {ending: name for cls in types.values() for ending, name in cls.file_names.items()}


def type_of(names: Collection[str], metadata: Mapping[str, str], types: Types, where: str) -> Adapter:
    """Return the type of the adapters in a file.

    Args:
        names: the names of all tensors that the file's modules have.
        metadata: the file's metadata.
        types: the known classes, by name.
        where: the file.

    Raises:
        CheckpointError: the file names an unknown type, or its tensors do not all belong to a single type.
    """
    said = stated_type(metadata, types, where)
    if said is not None:
        strange = sorted(set(names) - set(types[said].file_names.values()))
        if strange:
            what = f'the adapters are of the type "{said}" according to the metadata, but this type has no tensors named {listed(strange)}'
            raise CheckpointError(what, where=where, remedy=AGAIN)
        params = json_object(metadata.get(PARAMS, "{}"))
        if params is None:
            raise CheckpointError(f'the keys in this file for the type "{said}" are not a JSON object', where=where, remedy=AGAIN)
        try:
            return Adapter(said, types[said](**params))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f'the keys in this file for the type "{said}" are not valid: {error}', where=where, remedy=AGAIN
            ) from error
    fitting = [type for type, cls in types.items() if set(names) <= set(cls.file_names.values()) and _reads_files(cls)]
    if not fitting:
        raise CheckpointError("the tensors do not fit any single type of adapter", where=where, remedy=AGAIN)
    chosen = min(fitting, key=lambda type: len(set(types[type].file_names.values())))
    return Adapter(chosen, types[chosen]())


def stated_type(metadata: Mapping[str, str], types: Types, where: str) -> str | None:
    """Return the type of adapters that the metadata of a file state; None if they state none.

    Raises:
        CheckpointError: the type is not among the known types.
    """
    said = metadata.get(TYPE)
    if said is None or said in types:
        return said
    what = f'the adapters are of the type "{said}", which no installed plugin provides'
    meant = did_you_mean(said, types)
    remedy = f"Install the plugin that the LoRA was trained with, or name its file with --plugin.{f' {meant}' if meant else ''}"
    raise CheckpointError(what, where=where, remedy=remedy)


def _reads_files(cls: Any) -> bool:
    """Return whether a class, with its default keys, can read files that name no type."""
    has_defaults = all(field.default is not attrs.NOTHING or not field.init for field in attrs.fields(cls))
    return has_defaults and getattr(cls, "takes_file", True)
