"""Declarations of a run file's keys (default, range, unit and purpose); the keys of a table, from its attrs class, and
of a condition in training and of an objective; and conversion of objects back to what TOML can hold.

Structuring, `ltx plugins show` and the JSON Schema all read these lists, so that they cannot differ. The tables themselves are
in `ltxcore.config.run_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, get_origin, get_type_hints

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.declarations import roles_of
from ltxcore.errors import PluginError
from ltxcore.objectives import ObjectiveUse

Finding = tuple[tuple[str | int, ...], str, str]
"""An entry of a table's `problems()`: the key path inside the table, what is wrong, and the remedy."""

Reads = Literal["file", "folder", "either"]

REQUIRED: Any = object()
"""The default of a key that has no default."""


@attrs.frozen
class Bounds:
    """A range that a number, or every number of a list, must lie in. None is always in range."""

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
        """Return the condition that `number` violates; "" if it is in range, or is not a number."""
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
        default: the value when the file does not set the key; without one (and without `factory`) the key is required.
        help: the purpose of the key, in one line.
        unit: the unit of its number: "pixels", "seconds", "latent frames", ...
        factory: the function that makes the default.
        at_least, above, at_most, below: the range of its number.
        reads: the kind of input that the key names and that must exist: a file, a folder, or either.
        refused: texts that other programs accept and this key does not, each with the reason and the remedy.
    """
    bounds = Bounds(at_least, above, at_most, below)
    validator = bounds if bounds != Bounds() else None
    metadata = {name: value for name, value in (("help", help), ("unit", unit), ("reads", reads), ("refused", refused)) if value}
    if factory is not None:
        return attrs.field(factory=factory, validator=validator, metadata=metadata)
    return attrs.field(default=default, validator=validator, metadata=metadata)


def filled(default: Any = None) -> Any:
    """Declare a field that is not a key: structuring fills it in."""
    return attrs.field(default=default, metadata={"filled": True})


def is_key(field: attrs.Attribute[Any]) -> bool:
    """Return whether a field of a table is a key of the run file."""
    return field.init and not field.metadata.get("filled", False)


@attrs.frozen
class Key:
    """A key of a table: name, type, default (`REQUIRED` if it has none), purpose, unit, range, the kind of input it
    reads, and the texts that it refuses by name.
    """

    name: str
    kind: Any
    default: Any = REQUIRED
    help: str = ""
    unit: str = ""
    bounds: Bounds = attrs.field(factory=Bounds)
    reads: str | None = None
    refused: Mapping[str, tuple[str, str]] = attrs.field(factory=dict)

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def shown(self) -> Any:
        """The default as shown in a list of keys; None if there is none, if it is a table, or if it follows from other keys."""
        default = self.default
        if hasattr(default, "takes_self"):
            default = None if default.takes_self else default.factory()
        return None if self.required or attrs.has(type(default)) else default


def keys_of(cls: Any) -> list[Key]:
    """Return the keys of the table that an attrs class holds.

    Raises:
        PluginError: it is not an attrs class, or a key's type is a name that its module does not have.
    """
    if not attrs.has(cls):
        raise PluginError(f"{cls!r} is not an attrs class, so it has no keys")
    cls = get_origin(cls) or cls  # for a generic class, only its parameters are named
    return [_key_of(field, cls) for field in attrs.fields(cls) if is_key(field)]


def _key_of(field: attrs.Attribute[Any], cls: Any) -> Key:
    about = field.metadata
    return Key(
        name=field.alias or field.name,
        kind=Any if field.type is None else _type_of(field, cls),
        default=REQUIRED if field.default is attrs.NOTHING else field.default,
        help=about.get("help", ""),
        unit=about.get("unit", ""),
        bounds=_bounds(field.validator),
        reads=about.get("reads"),
        refused=about.get("refused", {}),
    )


def _type_of(field: attrs.Attribute[Any], cls: Any) -> Any:
    """Return a field's type, with names looked up where the field was written. Fields that are not keys may have types
    that only a type checker knows.
    """
    owner = next((base for base in cls.__mro__ if field.name in vars(base).get("__annotations__", {})), cls)
    alone = type(owner.__name__, (), {"__annotations__": {field.name: field.type}, "__module__": owner.__module__})
    try:
        return get_type_hints(alone, localns=dict(vars(owner)), include_extras=True)[field.name]
    except NameError as error:
        raise PluginError(
            f"the type of {cls.__qualname__}.{field.name} cannot be read: {error}",
            remedy="Import it at the top of the module, not under TYPE_CHECKING.",
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


def training_keys(cls: Any) -> list[Key]:
    """Return the keys of a condition in `[training_strategy]`: type, probability, those of its class, and one source
    folder for each role.
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
        *keys_of(cls),
        *(Key(role.source_key, str, help=f"folder of the encoded {role.name}") for role in roles_of(cls)),
    ]


def objective_keys(cls: Any) -> list[Key]:
    """Return the keys of an objective in `[[objectives]]`: type, weight, probability, those of its class, and a source
    folder for each role, which may be left out.
    """
    return [
        Key("type", str, help="the objective"),
        Key(
            "weight",
            float | dict[str, float],
            1.0,
            "the factor of its loss, or one by modality: { video = 1.0, audio = 0.2 }",
            bounds=Bounds(above=0, at_most=10**6),
        ),
        Key(
            "probability",
            float,
            1.0,
            "in how many of the steps it is learned, from 0 to 1",
            unit="share of steps",
            bounds=Bounds(above=0, at_most=1),
        ),
        *keys_of(cls),
        *(Key(role.source_key, str | None, None, f"folder with a mask for the {role.modality} of each sample") for role in roles_of(cls)),
    ]


def plain(value: Any) -> Any:
    """Convert a value to numbers, texts, lists and tables; None is left out of tables."""
    if isinstance(value, ObjectiveUse):
        folders = {role.source_key: value.sources[role.name] for role in value.roles}
        return {"type": value.type, "weight": plain(value.weight), "probability": value.probability, **plain(value.objective), **folders}
    if isinstance(value, ConditionUse):
        folders = {role.source_key: value.sources[role.name] for role in value.roles}
        return {"type": value.type, "probability": value.probability, **plain(value.condition), **folders}
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
