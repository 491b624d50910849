"""The keys of a table, from the attrs class that holds it; and those of a condition in training.

Structuring, `ltx plugins show` and the JSON Schema all read these lists, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin, get_type_hints

import attrs

from ltxcore.config.keys import Bounds, is_key
from ltxcore.errors import PluginError
from ltxcore.registry import roles_of

REQUIRED: Any = object()
"""The default of a key that has none."""


@attrs.frozen
class Key:
    """One key of a table: name, type, default (`REQUIRED`: none), what it is for, unit, range, what it reads, and texts that it refuses by name."""

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
        """The default as a list of keys shows it; None where there is none, it is a table, or it follows from other keys."""
        default = self.default
        if hasattr(default, "takes_self"):
            default = None if default.takes_self else default.factory()
        return None if self.required or attrs.has(type(default)) else default


def keys_of(cls: Any) -> list[Key]:
    """The keys of the table that an attrs class holds.

    Raises:
        PluginError: it is none; or a key's type is a name that its module does not have.
    """
    if not attrs.has(cls):
        raise PluginError(f"{cls!r} is not an attrs class, so it has no keys")
    cls = get_origin(cls) or cls  # of a generic class only its parameters are said
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
    """A field's type; names are looked up where the field was written. Fields that are no keys may have types that only a checker knows."""
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
    """Keys of a condition in `[training_strategy]`: type, probability, those of its class, one source folder for each role."""
    return [
        Key("type", str, help="the condition"),
        Key("probability", float, 1.0, "how often it applies", bounds=Bounds(at_least=0, at_most=1)),
        *keys_of(cls),
        *(Key(role.source_key, str, help=f"folder of its {role.name}") for role in roles_of(cls)),
    ]
