"""The keys of a condition in a validation sample, and the reader of samples. Conditions have the same classes as in training, but
name media files instead of source folders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import attrs

from ltxcore.columns import ENDINGS, spelled
from ltxcore.conditions import AskedCondition, PictureFiles, appends, length_field
from ltxcore.config.drawn_values import refusals
from ltxcore.config.parts import parted
from ltxcore.config.reading import Unreadable
from ltxcore.config.scalars import described
from ltxcore.config.tables import Bounds, Key, is_for, keys_elsewhere, keys_of, plain
from ltxcore.config.validation_samples import FREEZING, Freeze, ValidationSample
from ltxcore.declarations import content_of, roles_of
from ltxcore.errors import listed, many
from ltxcore.protocols import MODALITIES, Role

if TYPE_CHECKING:
    from ltxcore.config.structurer import Structurer

T = TypeVar("T")

LENGTHS = ("num_frames", "duration")
KINDS = {"media": "latents", "masks": "mask", "tensors": "values", "pictures": "pictures"}
"""The kinds of roles, by the field of a condition that holds their files."""

PLACES = ("frames", "times")
"""The keys that say where pictures lie; exactly one of them must be set."""

OUTPUT_KEYS = ("include_in_output", "downscale_factor", "temporal_scale_factor")


MEDIUM_KEYS: dict[str, tuple[str, ...]] = {"video": ("video", "image_or_video"), "audio": ("audio",)}
"""The keys of a condition's own medium in a validation sample, by modality."""


def sample_keys(cls: Any, modality: str) -> list[Key]:
    """Return the keys of a condition in a validation sample: the type, the keys of its class, and a file for its medium and for
    each role.

    The length in latent frames may be left out, or be written as pixel frames or seconds.
    """
    length = length_field(cls)
    keys = [Key("type", str, help="the condition")]
    own = [key for key in keys_of(cls) if is_for(key, modality) and not key.is_for_training]
    keys += [attrs.evolve(key, default=None, kind=key.kind | None) if key.name == length else key for key in own]
    names = {key.name for key in keys}
    if length is not None and modality == "video" and "num_frames" not in names:
        keys.append(Key("num_frames", int | None, None, f"{length}, in pixel frames", "pixel frames", Bounds(at_least=1)))
    if length is not None and "duration" not in names:
        keys.append(Key("duration", float | None, None, f"{length}, in seconds", "seconds", Bounds(above=0)))
    keys += [
        Key(name, Path | None, None, "file with the clip, image or sound that is given", reads="file")
        for name in medium_keys(cls, modality)
    ]
    for role in roles_of(cls):
        keys += _picture_keys(cls, role) if role.kind == "pictures" else [_file_key(cls, role, modality)]
    if needs_modality(cls):
        keys.append(Key("modality", Literal[MODALITIES], modality, "the modality that the condition works on"))
    if modality == "video" and appends(cls) and not has_only_pictures(cls):
        keys += _reference_keys()
    return keys


def _file_key(cls: Any, role: Role, modality: str) -> Key:
    return Key(media_key(cls, role, modality), Path, help=_file_of(role), reads="file")


def _picture_keys(cls: Any, role: Role) -> list[Key]:
    key = media_key(cls, role, "video")
    return [
        Key(key, list[Path], help=f"the {role.name} of the condition: image files, or clips, whose first frame is used", reads="file"),
        Key(
            "frames",
            list[int] | None,
            None,
            f"frame of the generated clip that each entry of {key} shows, counted from 0; -1 is the last",
            "pixel frames",
        ),
        Key("times", list[float] | None, None, f"time in the generated clip that each entry of {key} shows", "seconds", Bounds(at_least=0)),
    ]


def has_only_pictures(cls: Any) -> bool:
    """Return whether all media of a condition's class are pictures. Pictures are never shown beside the result, and have no factors."""
    kinds = {role.kind for role in roles_of(cls)}
    return "pictures" in kinds and "latents" not in kinds


def _file_of(role: Role) -> str:
    """Say what the file of a role holds."""
    if role.kind != "values":
        return f"the {role.name} of the condition"
    if role.column is None:
        return f"file of numbers ({', '.join(ENDINGS)}) of shape {spelled(role.shape or ())}"
    return f'file that the column "{role.column}" encodes, such as numbers ({", ".join(ENDINGS)})'


def _reference_keys() -> list[Key]:
    one = Bounds(at_least=1)
    return [
        Key("include_in_output", bool, False, "show it beside the result"),
        Key("downscale_factor", int, 1, "how many times smaller than the target the reference is", bounds=one),
        Key("temporal_scale_factor", int, 1, "how many times fewer frames the reference has", bounds=one),
    ]


def medium_keys(cls: Any, modality: str) -> tuple[str, ...]:
    """Return the keys that may name the condition's own medium; exactly one of them must be set. The result is empty if the condition has
    no medium."""
    return MEDIUM_KEYS[modality] if content_of(cls) is not None else ()


def media_key(cls: Any, role: Role, modality: str) -> str:
    """Return the key that names the file of a role. This is the role's own key, if it has one; for latents, the modality, unless
    that is the key of the condition's medium; for pictures, "images"; and otherwise the role's name.
    """
    if role.media_key is not None:
        return role.media_key
    if role.kind == "pictures":
        return "images"
    return modality if role.kind == "latents" and modality not in medium_keys(cls, modality) else role.name


def needs_modality(cls: Any) -> bool:
    """Return whether the condition in a validation sample needs the key `modality`, because no other key tells which modality it
    works on.
    """
    said = content_of(cls) is not None or any(media_key(cls, role, name) == name for role in roles_of(cls) for name in MODALITIES)
    return len(cls.modalities) > 1 and not said


@attrs.define
class SampleReader:
    """A reader of one `[[validation.samples]]`."""

    structurer: Structurer
    frozen: list[Freeze] = attrs.field(factory=list)

    def sample(self, value: Any) -> ValidationSample:
        special = {"conditions": self.conditions}
        if ValidationSample in self.structurer.in_parts:
            return cast(ValidationSample, self.structurer.parts(value, ValidationSample, special, lambda: {"frozen": self.frozen}))
        values = self.structurer.values(value, self.structurer.keys(ValidationSample), special, ValidationSample.not_here)
        return cast(ValidationSample, self.structurer.made(ValidationSample, {**values, "frozen": self.frozen}))

    def conditions(self, value: Any) -> list[AskedCondition]:
        reading = self.structurer.reading
        if not isinstance(value, list):
            reading.refuse("must be a list of tables", 'Write conditions = [{ type = "...", ... }].')
        read: list[tuple[int, AskedCondition]] = []
        failed = False
        for index, table in enumerate(value):
            with reading.at(index):
                try:
                    if isinstance(table, dict) and table.get("type") in FREEZING:
                        self.freeze(index, table)
                    else:
                        read.append((index, self.condition(index, table)))
                except Unreadable:
                    failed = True
        self._check_frozen(read)
        if failed:
            raise Unreadable
        return [condition for _, condition in read]

    def _check_frozen(self, read: list[tuple[int, AskedCondition]]) -> None:
        reading = self.structurer.reading
        frozen = {freeze.modality for freeze in self.frozen}
        if len(frozen) > 1:
            reading.note("freeze both modalities, so there is nothing to generate", "Keep one of video_to_audio and audio_to_video.")
        for index, condition in read:
            if condition.modality in frozen and not appends(condition.cls):
                reading.note(
                    f'the condition "{condition.type}" makes no sense on the frozen {condition.modality}, which is already given',
                    f"Remove the condition, or the entry that freezes the {condition.modality}.",
                    below=(index, "type"),
                )

    def freeze(self, index: int, table: Mapping[str, Any]) -> None:
        """Read the condition `video_to_audio` or `audio_to_video`, which gives a whole modality and freezes it."""
        modality = FREEZING[table["type"]]
        keys = [Key("type", str), Key(modality, Path, help=f"the {modality} that is given", reads="file")]
        medium = self.structurer.values(table, keys)[modality]
        freeze = Freeze(modality=modality, medium=medium, index=index)
        self.frozen.append(self.without(freeze, ["medium"] if self.structurer.reading.is_absent(modality) else []))

    def condition(self, index: int, table: Any) -> AskedCondition:
        name, cls = self.structurer.chosen("condition", table, "type")
        modality = self.modality(table, cls)
        keys = self.structurer.keys(cls, lambda cls: sample_keys(cls, modality))
        places = {role: media_key(cls, role, modality) for role in roles_of(cls)}
        files_of_values = {key: self.file_of_values for role, key in places.items() if role.kind == "values"}
        special = {**refusals(self.structurer, cls, table), **files_of_values}
        values = self.structurer.values(table, keys, special, keys_elsewhere(cls, modality) | _of_training(cls))
        files: dict[str, Any] = {
            name: {role.name: values.pop(key) for role, key in places.items() if role.kind == kind} for name, kind in KINDS.items()
        }
        files["pictures"] = {
            role.name: self.pictures(key, files["pictures"][role.name], values) for role, key in places.items() if role.kind == "pictures"
        }
        encoders = self.encoders(cls)
        medium = self.medium(values, cls, modality)
        lengths = self.lengths(values, cls)
        output = {key: values.pop(key) for key in OUTPUT_KEYS if key in values and key not in _own(cls)}
        fields = {key: value for key, value in values.items() if key in _own(cls) and value is not None}
        made = AskedCondition(
            type=name,
            modality=modality,
            cls=cls,
            fields=fields,
            medium=medium,
            **files,
            encoders=encoders,
            index=index,
            **lengths,
            **output,
        )
        # Made once with a stand-in for a length that is left open, so that anything that the class refuses is found now.
        length = length_field(cls)
        self.structurer.made(cls, fields if length is None or length in fields else {**fields, length: 1})
        absent = {"medium": medium_keys(cls, modality)}
        absent |= {name: tuple(key for role, key in places.items() if role.kind == kind) for name, kind in KINDS.items()}
        return self.without(made, [name for name, keys in absent.items() if any(map(self.structurer.reading.is_absent, keys))])

    def pictures(self, key: str, paths: list[Path], values: dict[str, Any]) -> PictureFiles:
        """Return the files of pictures with their places; there must be one place for each file."""
        places = {name: found for name in PLACES if (found := values.pop(name, None)) is not None}
        if not paths:
            self.structurer.reading.refuse(f"has no {key}", f"Name image files: {key} = [...].")
        if len(places) != 1:
            what = "sets frames and times, which mean the same" if places else f"does not say where {key} lie in the clip"
            self.structurer.reading.refuse(
                what, "Keep one of them." if places else "Write a number for each: frames = [0, -1], or times in seconds."
            )
        ((name, numbers),) = places.items()
        if len(numbers) != len(paths):
            what = f"{key} has {many(len(paths), 'entry', 'entries')}, but {name} has {len(numbers)}"
            self.structurer.reading.refuse(what, f"Write one number in {name} for each of {key}.")
        return PictureFiles(tuple(paths), **{name: tuple(numbers)})

    def file_of_values(self, value: Any) -> Path:
        """Return the file of a role of kind "values"; numbers in place of a file, which a dataset may hold, are refused."""
        if not isinstance(value, str):
            remedy = f"Write the numbers to a file ({', '.join(ENDINGS)}), and name that file here."
            self.structurer.reading.refuse(f"must be the path of a file, not {described(value)}", remedy)
        return self.structurer.path(value)

    def encoders(self, cls: Any) -> dict[str, tuple[str, Any]]:
        """Return, for each role of kind "values", the name of its column and an object that encodes the files, with default parameters."""
        found = {}
        for role in roles_of(cls):
            if role.kind == "values" and role.column is not None:
                found[role.name] = (role.column, self.structurer.registered("column", role.column)())
        return found

    def without(self, made: T, absent: Collection[str]) -> T:
        """Return an object; if the rest of the object is still to be checked, leave out the files that do not exist."""
        return parted(type(made), attrs.asdict(cast(Any, made), recurse=False), absent) if absent and self.structurer.in_parts else made

    def modality(self, table: Mapping[str, Any], cls: Any) -> str:
        """Return the modality that the condition works on; if its class works on several, the key of its medium decides."""
        reading = self.structurer.reading
        allowed = [name for name in MODALITIES if name in cls.modalities]
        if len(allowed) == 1:
            return allowed[0]
        if needs_modality(cls):
            named = [name for name in allowed if table.get("modality") == name]
            wanted = "modality"
        else:
            named = [name for name in allowed if any(key in table for key in MEDIUM_KEYS[name])]
            wanted = " or ".join(key for name in allowed for key in MEDIUM_KEYS[name])
        if len(named) > 1:
            reading.refuse(
                f"names both {' and '.join(named)}, but a condition works on one modality", "Write one condition for each modality."
            )
        if not named:
            reading.refuse("does not say which modality it works on", f"Set {wanted}.")
        return named[0]

    def medium(self, values: dict[str, Any], cls: Any, modality: str) -> Path | None:
        """Return the file of the condition's own medium."""
        if content_of(cls) is None:
            return None
        keys = medium_keys(cls, modality)
        found = [(key, path) for key in keys if (path := values.pop(key, None)) is not None]
        if len(found) != 1:
            fault = f"sets {listed(key for key, _ in found)}" if found else "has no medium of its own"
            self.structurer.reading.refuse(fault, f"Set {'one of ' if len(keys) > 1 else ''}{' and '.join(keys)} to a file.")
        return cast(Path, found[0][1])

    def lengths(self, values: dict[str, Any], cls: Any) -> dict[str, Any]:
        """Return `num_frames` and `duration`; at most one of them may be set, and only if the class's own length is not set."""
        length = length_field(cls)
        if length is None:
            return {}
        found = {key: values.pop(key) for key in LENGTHS if key in values and key not in _own(cls)}
        said = [key for key, value in ({length: values.get(length)} | found).items() if value is not None]
        if len(said) > 1:
            self.structurer.reading.refuse(f"sets {' and '.join(said)}, which mean the same", "Keep one of these keys.")
        return found


def _of_training(cls: Any) -> dict[str, tuple[str, str]]:
    """Return the keys of a class that a condition has only in training, each with the fault and the remedy for a sample that sets it."""
    keys = [key.name for key in keys_of(cls) if key.is_for_training]
    return dict.fromkeys(keys, ("is only for training", "Remove the key: here, all files that are named are given."))


def _own(cls: Any) -> set[str]:
    return {field.alias or field.name for field in attrs.fields(cls)}


def written(use: AskedCondition) -> dict[str, Any]:
    """Return the table from which this condition would be read."""
    table: dict[str, Any] = {"type": use.type, **plain(use.fields)}
    for name, value in (("num_frames", use.num_frames), ("duration", use.duration)):
        if value is not None:
            table[name] = value
    if use.medium is not None:
        table[medium_keys(use.cls, use.modality)[0]] = str(use.medium)
    for role in roles_of(use.cls):
        files = next(getattr(use, name) for name, kind in KINDS.items() if kind == role.kind)
        table[media_key(use.cls, role, use.modality)] = (
            plain(files[role.name]) if role.kind != "pictures" else plain(files[role.name].paths)
        )
        if role.kind == "pictures":
            table |= {name: list(found) for name in PLACES if (found := getattr(files[role.name], name)) is not None}
    if needs_modality(use.cls):
        table["modality"] = use.modality
    if any(key.name == OUTPUT_KEYS[0] for key in sample_keys(use.cls, use.modality)):
        table |= {key: getattr(use, key) for key in OUTPUT_KEYS}
    return table
