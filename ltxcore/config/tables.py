"""The keys of a table, from the attrs class that holds it; and the two tables of every condition.

Structuring, `ltx plugins show` and the JSON Schema all read these lists, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_type_hints

import attrs

from ltxcore.conditions import appends, length_field
from ltxcore.config.keys import Bounds, is_key
from ltxcore.errors import PluginError
from ltxcore.protocols import MODALITIES, Role
from ltxcore.registry import content_of, roles_of

MEDIUM_KEYS: dict[str, tuple[str, ...]] = {"video": ("video", "image_or_video"), "audio": ("audio",)}
"""Keys of a condition's own medium in a validation sample, by modality."""

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


def sample_keys(cls: Any, modality: str) -> list[Key]:
    """Keys of a condition in a validation sample: type, those of its class, a file for its medium and for each role.

    A number of latent frames may be left out, or be written as pixel frames or seconds.
    """
    length = length_field(cls)
    keys = [Key("type", str, help="the condition")]
    keys += [attrs.evolve(key, default=None, kind=key.kind | None) if key.name == length else key for key in keys_of(cls)]
    names = {key.name for key in keys}
    if length is not None and modality == "video" and "num_frames" not in names:
        keys.append(Key("num_frames", int | None, None, f"{length}, in pixel frames", "pixel frames", Bounds(at_least=1)))
    if length is not None and "duration" not in names:
        keys.append(Key("duration", float | None, None, f"{length}, in seconds", "seconds", Bounds(above=0)))
    keys += [Key(name, Path | None, None, "file with what it gives", reads="file") for name in medium_keys(cls, modality)]
    keys += [Key(media_key(cls, role, modality), Path, help=f"its {role.name}", reads="file") for role in roles_of(cls)]
    if needs_modality(cls):
        keys.append(Key("modality", Literal[MODALITIES], modality, "what it works on"))
    if modality == "video" and appends(cls):
        keys += _reference_keys()
    return keys


def _reference_keys() -> list[Key]:
    one = Bounds(at_least=1)
    return [
        Key("include_in_output", bool, False, "show it beside the result"),
        Key("downscale_factor", int, 1, "how many times smaller than the target it is drawn", bounds=one),
        Key("temporal_scale_factor", int, 1, "how many times fewer frames it has", bounds=one),
    ]


def medium_keys(cls: Any, modality: str) -> tuple[str, ...]:
    """Keys that may name the condition's own medium: exactly one of them is set; none where it has no medium."""
    return MEDIUM_KEYS[modality] if content_of(cls) is not None else ()


def media_key(cls: Any, role: Role, modality: str) -> str:
    """The key that names the file of a role: its own, else the modality for latents (unless the condition's medium has that key), else its name."""
    if role.media_key is not None:
        return role.media_key
    return modality if role.kind == "latents" and modality not in medium_keys(cls, modality) else role.name


def needs_modality(cls: Any) -> bool:
    """Whether no key of a validation sample says which modality the condition works on."""
    said = content_of(cls) is not None or any(media_key(cls, role, name) == name for role in roles_of(cls) for name in MODALITIES)
    return len(cls.modalities) > 1 and not said
