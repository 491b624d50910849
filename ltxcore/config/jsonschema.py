"""The JSON Schema of run files for editors, with the keys of all plugins.

The schema follows draft 7, which TOML editors read. The schema is made from the lists of keys that structuring uses, so that an
editor underlines what `ltx check` refuses.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from ltxcore.addresses import Address
from ltxcore.columns import has_encode
from ltxcore.conditions import AskedCondition, ConditionUse
from ltxcore.config.drawn_values import choice_keys, range_keys
from ltxcore.config.run_file import RunFile
from ltxcore.config.sample_tables import MEDIUM_KEYS, medium_keys, needs_modality, sample_keys
from ltxcore.config.tables import Bounds, Key, column_keys, keys_of, objective_keys, plain, training_keys
from ltxcore.config.validation_samples import FREEZING
from ltxcore.protocols import MODALITIES
from ltxcore.registry import Registry

Schema = dict[str, Any]

OF_PACKAGE = r"^\w+(\.\w+)*:\w+$"
"""The pattern of names for optimizers of installed packages."""

SCALARS: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", Address: "string"}
LIMITS = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum", "below": "exclusiveMaximum"}


def json_schema(registry: Registry) -> Schema:
    """Return the schema of run files that may use the plugins of a registry."""
    builder = _Builder(registry)
    special: dict[str, Callable[[], Schema]] = {
        "training_strategy": builder.strategies,
        "objectives": builder.objectives,
        "trackers": builder.trackers,
        "flow_matching": builder.flow_matching,
        "lora": builder.lora,
        "optimization": builder.optimization,
        "preprocessing": builder.preprocessing,
        "acceleration": builder.acceleration,
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "ltx run file", **builder.table(keys_of(RunFile), special)}


@attrs.frozen
class _Builder:
    registry: Registry
    modality: str | None = None

    def table(self, keys: Sequence[Key], special: Mapping[str, Callable[[], Schema]] | None = None) -> Schema:
        properties = {key.name: self.key(key, (special or {}).get(key.name)) for key in keys}
        required = [key.name for key in keys if key.required]
        return {"type": "object", "properties": properties, "additionalProperties": False, **({"required": required} if required else {})}

    def key(self, key: Key, special: Callable[[], Schema] | None = None) -> Schema:
        inside = attrs.evolve(self, modality=key.name) if key.name in MODALITIES else self
        schema = special() if special is not None else inside.kind(key.kind)
        about = f"{key.help} ({key.unit})" if key.unit else key.help
        default = {} if key.shown is None else {"default": plain(key.shown)}
        bounded = _bounded(schema, key.bounds)
        if key.is_drawable:
            bounded = {"anyOf": [bounded, *self.drawn(key, bounded)]}
        return {**bounded, **({"description": about} if about else {}), **default}

    def drawn(self, key: Key, value: Schema) -> Iterator[Schema]:
        """Yield the schemas of the tables that may stand in place of a key's value; the value is then drawn in training."""
        if keys := range_keys(key):
            yield self.table(keys)
        yield self.table(choice_keys(key), {"one_of": lambda: {"type": "array", "items": value, "minItems": 1}})

    def kind(self, kind: Any) -> Schema:
        """Return the schema of a type."""
        kind = getattr(kind, "__supertype__", kind)
        origin, inner = get_origin(kind), [part for part in get_args(kind) if part is not type(None)]
        if kind in SCALARS:
            return {"type": SCALARS[kind]}
        if kind is ConditionUse:
            return self.uses()
        if kind == AskedCondition:
            return self.sample_conditions()
        if attrs.has(kind):
            return self.table(keys_of(kind))
        if origin is Literal:
            return {"enum": inner}
        if origin in (Union, types.UnionType):
            kinds = [self.kind(part) for part in inner]
            different = [each for index, each in enumerate(kinds) if each not in kinds[:index]]
            return different[0] if len(different) == 1 else {"anyOf": different}
        if origin is tuple and inner[-1] is not Ellipsis:
            return {"type": "array", "items": [self.kind(part) for part in inner], "minItems": len(inner), "maxItems": len(inner)}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.kind(inner[1])}
        return {"type": "array", "items": self.kind(inner[0])} if inner else {}

    # ---- what plugins name

    def uses(self) -> Schema:
        """Return the schema of a condition in the table of a modality under `[training_strategy]`."""
        conditions = self.registry.of_kind("condition")
        fit = [
            (name, named.value) for name, named in conditions.items() if self.modality is None or self.modality in named.value.modalities
        ]
        return {"oneOf": [self.named("type", name, training_keys(cls, self.modality), cls) for name, cls in fit]}

    def sample_conditions(self) -> Schema:
        """Return the schema of an entry in the conditions of a validation sample: a condition, or a frozen modality."""
        found = [
            self.sample_condition(name, named.value, modality)
            for name, named in self.registry.of_kind("condition").items()
            for modality in _ordered(named.value)
        ]
        for name, modality in FREEZING.items():
            found.append(self.named("type", name, [Key("type", str), Key(modality, Path, help=f"the {modality} that is given")], None))
        return {"oneOf": found}

    def sample_condition(self, name: str, cls: Any, modality: str) -> Schema:
        schema = self.named("type", name, sample_keys(cls, modality), cls)
        if medium_keys(cls, modality):
            schema["oneOf"] = [{"required": [key]} for key in MEDIUM_KEYS[modality]]
        if needs_modality(cls):
            schema["properties"]["modality"] = {"const": modality}
            schema["required"].append("modality")
        return schema

    def strategies(self) -> Schema:
        """Return the schema of `[training_strategy]`, whose keys depend on its name."""
        name = Key("name", str, help="the strategy")
        return {
            "oneOf": [
                self.named("name", label, [name, *keys_of(named.value)], named.value)
                for label, named in self.registry.of_kind("strategy").items()
            ]
        }

    def objectives(self) -> Schema:
        """Return the schema of `[[objectives]]`, where the keys of each entry depend on its type."""
        named = self.registry.of_kind("objective").items()
        return {"type": "array", "items": {"oneOf": [self.named("type", label, objective_keys(of.value), of.value) for label, of in named]}}

    def trackers(self) -> Schema:
        tables = {
            name: {**self.table(keys_of(named.value)), **_described(named.value)}
            for name, named in self.registry.of_kind("tracker").items()
        }
        return {"type": "object", "properties": tables, "additionalProperties": False}

    def flow_matching(self) -> Schema:
        """Return the schema of `[flow_matching]`, whose parameters depend on the mode."""
        return self.with_params("flow_matching", "sigma_sampler", "timestep_sampling_mode", "timestep_sampling_params")

    def lora(self) -> Schema:
        """Return the schema of `[lora]`, whose parameters depend on the type."""
        return self.with_params("lora", "adapter", "type", "params")

    def with_params(self, table: str, kind: str, mode: str, params: str) -> Schema:
        """Return the schema of a table in which one key names a plugin and another holds a table of the plugin's keys."""
        keys = {key.name: key for key in keys_of(_table_of(table))}
        named = self.registry.of_kind(kind)
        chosen = [(name, self.table(keys_of(each.value))) for name, each in named.items()]
        schema = self.table(list(keys.values()), {mode: lambda: {"enum": list(named)}})
        return {**schema, "allOf": _chosen(mode, params, keys[mode].default, chosen)}

    def optimization(self) -> Schema:
        """Return the schema of `[optimization]`, where the parameters of the optimizer and of the scheduler depend on their types."""
        keys = {key.name: key for key in keys_of(_table_of("optimization"))}
        optimizers = self.registry.of_kind("optimizer")
        kinds = {"anyOf": [{"enum": list(optimizers)}, {"type": "string", "pattern": OF_PACKAGE}]}
        params = [(name, self.table(keys_of(named.value))) for name, named in optimizers.items()]
        schedules = self.registry.of_kind("schedule")
        chosen = [(name, self.table(keys_of(named.value))) for name, named in schedules.items()]
        return {
            **self.table(list(keys.values()), {"optimizer_type": lambda: kinds, "scheduler_type": lambda: {"enum": list(schedules)}}),
            "allOf": [
                *_chosen("optimizer_type", "optimizer_params", keys["optimizer_type"].default, params),
                *_chosen("scheduler_type", "scheduler_params", keys["scheduler_type"].default, chosen),
            ],
        }

    def acceleration(self) -> Schema:
        """Return the schema of `[acceleration]`, where the parameters of the quantization depend on its name."""
        keys = {key.name: key for key in keys_of(_table_of("acceleration"))}
        quantizers = self.registry.of_kind("quantizer")
        chosen = [(name, self.table(keys_of(named.value))) for name, named in quantizers.items()]
        return {
            **self.table(list(keys.values()), {"quantization": lambda: {"enum": list(quantizers)}}),
            "allOf": _chosen("quantization", "quantization_params", keys["quantization"].default, chosen),
        }

    def preprocessing(self) -> Schema:
        """Return the schema of `[preprocessing]`, where the parameters of the source depend on its name."""
        sources = self.registry.of_kind("source")
        chosen = [(name, self.table(keys_of(named.value))) for name, named in sources.items()]
        return {
            **self.table(keys_of(_table_of("preprocessing")), {"source": lambda: {"enum": list(sources)}, "columns": self.columns}),
            "allOf": _chosen("source", "source_params", None, chosen),
        }

    def columns(self) -> Schema:
        """Return the schema of `[preprocessing.columns]`, which has a table for each column, and tables for columns that are like one."""
        named = self.registry.of_kind("column").items()
        tables = {name: {**self.table(column_keys(column.value)), **_described(column.value)} for name, column in named}
        others = [
            self.named("type", name, column_keys(column.value, is_another=True), column.value)
            for name, column in named
            if not has_encode(column.value)
        ]
        return {"type": "object", "properties": tables, "additionalProperties": {"anyOf": others} if others else False}

    def named(self, key: str, name: str, keys: Sequence[Key], cls: Any) -> Schema:
        """Return the schema of a table that applies if its `key` has the value `name`."""
        schema = self.table(keys, {key: lambda: {"const": name}})
        return {**schema, **_described(cls)} if cls is not None else schema


def _chosen(mode: str, params: str, default: str | None, chosen: Iterable[tuple[str, Schema]]) -> list[Schema]:
    """Return rules that give the table `params` a schema for each value of `mode`; if `mode` is absent, its default applies."""
    rules = []
    for name, schema in chosen:
        named: Schema = {"properties": {mode: {"const": name}}}
        rules.append({"if": named if name == default else {**named, "required": [mode]}, "then": {"properties": {params: schema}}})
    return rules


def _bounded(schema: Schema, bounds: Bounds) -> Schema:
    """Return the schema with limits on its number, or on each number of its list."""
    limits = {LIMITS[name]: limit for name, limit in attrs.asdict(bounds).items() if limit is not None}
    if not limits:
        return schema
    items = schema.get("items")
    if isinstance(items, list):
        return {**schema, "items": [{**item, **limits} for item in items]}
    return {**schema, "items": {**items, **limits}} if isinstance(items, dict) else {**schema, **limits}


def _described(cls: Any) -> Schema:
    text = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    return {"description": text} if text else {}


def _ordered(cls: Any) -> list[str]:
    return [name for name in MODALITIES if name in cls.modalities]


def _table_of(name: str) -> Any:
    return next(key.kind for key in keys_of(RunFile) if key.name == name)
