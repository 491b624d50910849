"""What a LoRA records of the references that it was trained with: of one, its factors; of several on a modality, each by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from ltxcore.condition_metadata import REFERENCES, Described, described, metadata_of, references_in, trained_factors
from ltxcore.conditions import ConditionUse
from ltxcore.errors import DataError
from ltxcore.modality_tables import Place
from ltxcore.protocols import Role


@attrs.frozen
class Paired:
    """A reference that says of itself what it is told to."""

    said: Mapping[str, str]

    modalities = frozenset({"video", "audio"})
    roles = (Role("reference", source_key="latents_dir", kind="latents"),)
    appends = True

    def metadata(self, pairs: Any) -> Mapping[str, str]:
        return self.said


@attrs.frozen
class Stated(Paired):
    """A condition that appends nothing, and says something too."""

    roles = ()
    appends = False


def used(index: int, folder: str, modality: str = "video", cls: type = Paired, **said: str) -> Described | None:
    use = ConditionUse("reference", cls(said), sources={"reference": folder})
    return described(Place(modality, f"cond{index}", "reference", ("conditions", index)), use, [])


HALF = {"reference_downscale_factor": "2"}


def test_of_one_reference_on_each_modality_only_the_factors_are_recorded() -> None:
    assert metadata_of([used(0, "pose", **HALF), used(0, "voice", "audio")]) == HALF


def test_of_several_references_each_is_recorded_and_what_all_say_alike_once_more() -> None:
    found = metadata_of([used(0, "pose", **HALF), used(1, "depth", **HALF, reference_temporal_scale_factor="2"), used(0, "voice", "audio")])
    assert {name: each for name, each in found.items() if name != REFERENCES} == HALF
    assert json.loads(found[REFERENCES]) == [
        {"modality": "video", "type": "reference", "latents_dir": "pose", **HALF},
        {"modality": "video", "type": "reference", "latents_dir": "depth", **HALF, "reference_temporal_scale_factor": "2"},
    ]


def test_a_factor_of_one_reference_alone_is_no_factor_of_all() -> None:
    """A program that knows one factor for all references would make the other one too small."""
    found = metadata_of([used(0, "pose"), used(1, "depth", **HALF)])
    assert list(found) == [REFERENCES]
    assert trained_factors(found) == [
        {"downscale_factor": 1, "temporal_scale_factor": 1},
        {"downscale_factor": 2, "temporal_scale_factor": 1},
    ]


def test_one_reference_in_two_lists_of_a_choice_counts_once() -> None:
    assert metadata_of([used(0, "pose", **HALF), used(1, "pose", **HALF)]) == HALF


def test_what_other_conditions_say_differently_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        metadata_of([used(0, "", cls=Stated, kind="a"), used(1, "pose", **HALF), used(2, "depth"), used(3, "", cls=Stated, kind="b")])
    assert str(caught.value) == (
        "training_strategy.video.conditions.3: the saved LoRA would record kind = b, but another condition records a\n"
        "    A LoRA can record only one: give both conditions data of the same kind."
    )


def test_the_factors_of_a_lora_with_one_reference_are_those_that_it_names() -> None:
    assert trained_factors({}) == [{"downscale_factor": 1, "temporal_scale_factor": 1}]
    assert trained_factors({**HALF, "rank": "4"}) == [{"downscale_factor": 2, "temporal_scale_factor": 1}]


@pytest.mark.parametrize("text", ["[", "3", "[3]", "null", "[" * 100_000], ids=range(5))
def test_references_that_cannot_be_read_are_told_apart_from_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^these are no references$"):
        references_in({REFERENCES: text})
    assert references_in({}) == []
