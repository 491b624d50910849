"""The declarations of a run file's keys, with default, range, unit and purpose. The module lists the keys of a table (from its
attrs class), of a condition in training and of an objective, and converts objects back to values that TOML can hold.

Structuring, `ltx plugins show` and the JSON Schema all use these lists, so that they always agree. The tables themselves are in
`ltxcore.config.run_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, get_origin, get_type_hints

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.config.scalars import can_be_drawn
from ltxcore.config.toml import excesses
from ltxcore.declarations import roles_of
from ltxcore.drawn import Drawn, written
from ltxcore.errors import PluginError
from ltxcore.objectives import ObjectiveUse

Finding = tuple[tuple[str | int, ...], str, str]
"""An entry of a table's `problems()`: the key path inside the table, what is wrong, and the remedy."""

Reads = Literal["file", "folder", "either"]

REQUIRED: Any = object()
"""Stands for the default of a key that has none."""


@attrs.frozen
class Bounds:
    """The limits within which a number, or every number of a list, must lie. The value None is always within the limits."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __call__(self, _: Any, field: attrs.Attribute[Any], value: Any) -> None:
        for number in value if isinstance(value, (list, tuple)) else [value]:
            fault = self.fault(number)
            if fault:
                raise ValueError(f"{fault}, not {number}")

    def fault(self, number: Any) -> str:
        """Return the limit that `number` violates, in words; "" if it violates none, or is not a number."""
        if not isinstance(number, (int, float)):
            return ""
        if self.at_least is not None and not number >= self.at_least:
            return f"must be at least {_shown(self.at_least)}"
        if self.above is not None and not number > self.above:
            return f"must be above {_shown(self.above)}"
        if self.at_most is not None and not number <= self.at_most:
            return f"must be at most {_shown(self.at_most)}"
        if self.below is not None and not number < self.below:
            return f"must be below {_shown(self.below)}"
        return ""


def _shown(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def key(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    unit: str = "",
    factory: Any = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    reads: Reads | None = None,
    refused: Mapping[str, tuple[str, str]] | None = None,
) -> Any:
    """Declare a key of a table.

    Args:
        default: the value if the file does not set the key; a key without `default` and without `factory` is required.
        help: the purpose of the key, in one line.
        unit: the unit of its number: "pixels", "seconds", "latent frames", ...
        factory: a function that makes the default.
        at_least, above, at_most, below: the range of its number.
        reads: the kind of input that the key names, which must exist: a file, a folder, or either.
        refused: texts that other programs accept and this key does not, each with the reason and the remedy.
    """
    bounds = Bounds(at_least, above, at_most, below)
    validator = bounds if bounds != Bounds() else None
    metadata = {name: value for name, value in (("help", help), ("unit", unit), ("reads", reads), ("refused", refused)) if value}
    if factory is not None:
        return attrs.field(factory=factory, validator=validator, metadata=metadata)
    return attrs.field(default=default, validator=validator, metadata=metadata)


def filled(default: Any = None) -> Any:
    """Declare a field that is not a key, and that structuring fills in."""
    return attrs.field(default=default, metadata={"filled": True})


def is_key(field: attrs.Attribute[Any]) -> bool:
    """Return whether a field of a table is a key of the run file."""
    return field.init and not field.metadata.get("filled", False)


@attrs.frozen
class Key:
    """A key of a table: name, type, default (`REQUIRED` if it has none), purpose, unit, range, the kind of input it reads, the texts that
    it refuses, whether its value may be drawn, the modality if it is for one modality only, and whether a condition has it only in
    training.
    """

    name: str
    kind: Any
    default: Any = REQUIRED
    help: str = ""
    unit: str = ""
    bounds: Bounds = attrs.field(factory=Bounds)
    reads: str | None = None
    refused: Mapping[str, tuple[str, str]] = attrs.field(factory=dict)
    is_drawable: bool = False
    modality: str = ""
    is_for_training: bool = False

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def shown(self) -> Any:
        """The default as shown in a list of keys; None if the key has no default, if the default is a table, or if it follows
        from other keys.
        """
        default = self.default
        if hasattr(default, "takes_self"):
            default = None if default.takes_self else default.factory()
        return None if self.required or attrs.has(type(default)) else default


def keys_of(cls: Any) -> list[Key]:
    """Return the keys of the table that an attrs class represents.

    Raises:
        PluginError: the class is not an attrs class, or the type of a key is a name that the module of the class does not define.
    """
    if not attrs.has(cls):
        raise PluginError(f"{cls!r} is not an attrs class, so it has no keys")
    cls = get_origin(cls) or cls  # for a generic class, only its parameters are named
    return [_key_of(field, cls) for field in attrs.fields(cls) if is_key(field)]


def _key_of(field: attrs.Attribute[Any], cls: Any) -> Key:
    about = field.metadata
    name = f"{cls.__qualname__}.{field.name}"
    for text in ("help", "unit"):
        if not isinstance(about.get(text, ""), str):
            raise PluginError(f"the {text} of {name} is of the type {type(about[text]).__name__}; it must be text")
    for _, what, remedy in excesses(field.default):
        raise PluginError(f"the default of {name} cannot be written in a run file: {what}", remedy=remedy)
    return Key(
        name=field.alias or field.name,
        kind=Any if field.type is None else _type_of(field, cls),
        default=REQUIRED if field.default is attrs.NOTHING else field.default,
        help=about.get("help", ""),
        unit=about.get("unit", ""),
        bounds=_bounds(field.validator),
        reads=about.get("reads"),
        refused=about.get("refused", {}),
        modality=about.get("modality", ""),
        is_for_training=bool(about.get("training", False)),
    )


def is_for(key: Key, modality: str | None) -> bool:
    """Return whether a key may be set for a modality; None stands for a modality that is not known."""
    return modality is None or key.modality in ("", modality)


def keys_elsewhere(cls: Any, modality: str | None) -> dict[str, tuple[str, str]]:
    """Return the keys of a condition that are for the other modality, each with the reason why it cannot be set and the remedy."""
    return {
        key.name: (f"is only for {key.modality}", f"Remove it: it has no meaning on {modality}.")
        for key in keys_of(cls)
        if not is_for(key, modality)
    }


def _type_of(field: attrs.Attribute[Any], cls: Any) -> Any:
    """Return the type of a field, with names resolved in the module that declares the field. Fields that are not keys may have
    types that only a type checker knows.
    """
    owner = next((base for base in cls.__mro__ if field.name in vars(base).get("__annotations__", {})), cls)
    alone = type(owner.__name__, (), {"__annotations__": {field.name: field.type}, "__module__": owner.__module__})
    try:
        return get_type_hints(alone, localns=dict(vars(owner)), include_extras=True)[field.name]
    except NameError as error:
        raise PluginError(
            f"the type of {cls.__qualname__}.{field.name} cannot be read: {error}",
            remedy="Import the type at the top of the module, not under TYPE_CHECKING.",
        ) from error


def _bounds(validator: Any) -> Bounds:
    if isinstance(validator, Bounds):
        return validator
    names = {">=": "at_least", ">": "above", "<=": "at_most", "<": "below"}
    found: dict[str, float] = {}
    for part in getattr(validator, "_validators", (validator,)):
        name = names.get(getattr(part, "compare_op", ""))
        if name is not None:
            found[name] = part.bound
    return Bounds(**found)


def training_keys(cls: Any, modality: str | None = None) -> list[Key]:
    """Return the keys of a condition in `[training_strategy]`: the type, the probability, the keys of its class, and a source
    folder for each role. Keys that are not for `modality`, if it is known, are left out.
    """
    return [
        Key("type", str, help="the condition"),
        Key(
            "probability",
            float,
            1.0,
            "probability that the condition is applied to a sample, from 0 to 1",
            bounds=Bounds(at_least=0, at_most=1),
        ),
        *(attrs.evolve(key, is_drawable=can_be_drawn(key.kind)) for key in keys_of(cls) if is_for(key, modality)),
        *(Key(role.source_key, str, help=f"folder of the encoded {role.name}") for role in roles_of(cls)),
    ]


def column_keys(cls: Any, is_another: bool = False) -> list[Key]:
    """Return the keys of a column in `[preprocessing.columns.NAME]`: the dataset's own name for it, the factors of reference clips, and the
    keys of its class. A table for another column of a registered type also has that type.
    """
    by_default = "the name of the table" if is_another else "the one with the name of the registered column"
    factors = [
        Key(name, int | None, None, f"these clips {what}; by default reference_{name}", bounds=Bounds(at_least=1, at_most=1024))
        for name, what in (
            ("downscale_factor", "are this many times smaller"),
            ("temporal_scale_factor", "have this many times fewer frames"),
        )
    ]
    return [
        *([Key("type", str, help="the registered column that this column works like")] if is_another else []),
        Key("column", str | None, None, f"column of the dataset; by default {by_default}"),
        *(factors if (cls.kind, cls.modality) == ("latents", "video") else []),
        *keys_of(cls),
    ]


def objective_keys(cls: Any) -> list[Key]:
    """Return the keys of an objective in `[[objectives]]`: the type, the weight, the probability, the keys of its class, and an
    optional source folder for each role.
    """
    return [
        Key("type", str, help="the objective"),
        Key(
            "weight",
            float | dict[str, float],
            1.0,
            "the factor of its loss, or one for each modality: { video = 1.0, audio = 0.2 }",
            bounds=Bounds(above=0, at_most=10**6),
        ),
        Key(
            "probability",
            float,
            1.0,
            "share of the steps in which it is learned, from 0 to 1",
            unit="share of steps",
            bounds=Bounds(above=0, at_most=1),
        ),
        *keys_of(cls),
        *(Key(role.source_key, str | None, None, f"folder with a mask for the {role.modality} of each sample") for role in roles_of(cls)),
    ]


def plain(value: Any) -> Any:
    """Convert a value to numbers, texts, lists and tables, leaving None out of tables."""
    if isinstance(value, ObjectiveUse):
        folders = {role.source_key: value.sources[role.name] for role in value.roles}
        return {"type": value.type, "weight": plain(value.weight), "probability": value.probability, **plain(value.objective), **folders}
    if isinstance(value, ConditionUse):
        folders = {role.source_key: value.sources[role.name] for role in value.roles}
        own = {name: each for name, each in plain(value.condition).items() if name not in value.unset}
        return {"type": value.type, "probability": value.probability, **own, **plain(value.drawn), **folders}
    if isinstance(value, Drawn):
        return plain(written(value))
    if attrs.has(type(value)):
        fields = [field for field in attrs.fields(type(value)) if is_key(field)]
        return plain({field.alias or field.name: getattr(value, field.name) for field in fields})
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(inner) for inner in value)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, PurePath):
        return str(value)
    return plain(value.value) if isinstance(value, Enum) else value
