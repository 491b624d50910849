"""The metadata that conditions add to a saved LoRA, and the references that the metadata of a LoRA describe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.drawn import corners, spoken
from ltxcore.errors import DataError, LtxError
from ltxcore.modality_tables import Place
from ltxcore.protocols import DescribesLora, Geometry

FACTORS = {"downscale_factor": "reference_downscale_factor", "temporal_scale_factor": "reference_temporal_scale_factor"}
"""The keys for a reference's factors in a sample, each with the key for the same factor in a LoRA's metadata."""

REFERENCES = "references"
"""The metadata key, in a saved LoRA, for the references on one modality if there are several: a JSON list with the modality, the type, the
folder and the metadata of each.
"""


@attrs.frozen
class Described:
    """A condition with the metadata that it adds to a LoRA."""

    place: Place
    use: ConditionUse
    metadata: Mapping[str, str]

    @property
    def is_reference(self) -> bool:
        """Whether the condition appends latents of its own."""
        return self.use.appends and any(role.kind == "latents" for role in self.use.roles)

    @property
    def record(self) -> dict[str, str]:
        """The condition's record in the metadata of a LoRA, if the condition is one of several references."""
        folders = {role.source_key: self.use.sources[role.name] for role in self.use.roles}
        return {"modality": self.place.modality, "type": self.use.type, **folders, **self.metadata}


def described(place: Place, use: ConditionUse, pairs: Iterable[tuple[Geometry, Mapping[str, Geometry]]]) -> Described | None:
    """Return a condition with its metadata, for which `pairs` are the geometries of the data; None if its class adds none.

    Raises:
        DataError: samples or drawn values disagree on the metadata.
    """
    if not isinstance(use.condition, DescribesLora):
        return None
    found: dict[str, str] = {}
    geometries = list(pairs)
    for values in corners(use.drawn):
        try:
            said = use.having(values).condition.metadata(geometries)
        except LtxError as error:
            raise error.at(place.where) from error
        for key, value in said.items():
            if found.setdefault(key, value) != value:
                what = f"{key} = {value} with {spoken(values)}, but {found[key]} with other values"
                raise _two_records(place, what, "Draw only what a LoRA need not record.")
    return Described(place, use, found)


def metadata_of(conditions: Iterable[Described | None]) -> dict[str, str]:
    """Return the metadata of a LoRA that was trained with these conditions. If a modality has several references, each reference has a
    record of its own, and values that differ between references are only in these records.

    Raises:
        DataError: other conditions disagree on what a LoRA can record only once.
    """
    adding = [each for each in conditions if each is not None]
    beside: dict[str, list[dict[str, str]]] = {}
    for each in adding:
        records = beside.setdefault(each.place.modality, [])
        records += [each.record] if each.is_reference and each.record not in records else []
    found: dict[str, str] = {}
    for each in adding:
        for key, value in each.metadata.items():
            if each.is_reference and any(other.get(key) != value for other in beside[each.place.modality]):
                continue
            if found.setdefault(key, value) != value:
                what = f"{key} = {value}, but another condition records {found[key]}"
                raise _two_records(each.place, what, "A LoRA can record only one: give both conditions data of the same kind.")
    several = [record for records in beside.values() if len(records) > 1 for record in records]
    return found | ({REFERENCES: json.dumps(several)} if several else {})


def _two_records(place: Place, what: str, remedy: str) -> DataError:
    return DataError(f"the saved LoRA would record {what}", where=place.where, remedy=remedy)


def references_in(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the references that the metadata of a LoRA record one by one, because there are several on a modality; otherwise none.

    Raises:
        ValueError: the metadata are not of this form.
    """
    try:
        return [{str(key): str(value) for key, value in each.items()} for each in json.loads(metadata.get(REFERENCES, "[]"))]
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("these are no references") from error


def trained_factors(metadata: Mapping[str, str]) -> list[dict[str, int]]:
    """Return the factors of each kind of reference video that a LoRA was trained with, by their keys in a sample; factors that the metadata
    do not name are 1.

    Raises:
        ValueError: the metadata are not of this form.
    """
    videos: list[Mapping[str, str]] = [each for each in references_in(metadata) if each.get("modality") == "video"]
    return [{key: int(each.get(name, "1")) for key, name in FACTORS.items()} for each in videos or [metadata]]
