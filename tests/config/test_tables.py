"""One class, two tables: a condition's keys in training and in sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from ltxcore.config.sample_tables import sample_keys
from ltxcore.config.tables import Bounds, keys_of, training_keys
from ltxcore.errors import PluginError
from ltxcore.registry import load

CONDITIONS = {name: named.value for name, named in load().of_kind("condition").items()}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("first_frame", ["type", "probability", "level"]),
        ("prefix", ["type", "probability", "temporal_boundary", "level"]),
        ("suffix", ["type", "probability", "temporal_boundary", "level"]),
        ("spatial_crop", ["type", "probability", "spatial_region", "level"]),
        ("mask", ["type", "probability", "mask_dir"]),
        ("reference", ["type", "probability", "level", "strength", "latents_dir"]),
        ("keyframes", ["type", "probability", "candidates", "level", "strength", "keyframes_dir"]),
    ],
)
def test_the_training_table_has_a_source_for_each_role(name: str, keys: list[str]) -> None:
    assert [key.name for key in training_keys(CONDITIONS[name])] == keys


OUTPUT = ["include_in_output", "downscale_factor", "temporal_scale_factor"]


@pytest.mark.parametrize(
    ("name", "modality", "keys"),
    [
        ("first_frame", "video", ["type", "level", "video", "image_or_video"]),
        ("prefix", "video", ["type", "temporal_boundary", "level", "num_frames", "duration", "video", "image_or_video"]),
        ("suffix", "audio", ["type", "temporal_boundary", "level", "duration", "audio"]),
        ("spatial_crop", "video", ["type", "spatial_region", "level", "video", "image_or_video"]),
        ("mask", "video", ["type", "video", "image_or_video", "mask"]),
        ("mask", "audio", ["type", "audio", "mask"]),
        ("reference", "video", ["type", "level", "strength", "video", *OUTPUT]),
        ("reference", "audio", ["type", "level", "strength", "audio"]),
        ("keyframes", "video", ["type", "level", "strength", "images", "frames", "times"]),
    ],
)
def test_the_sample_table_has_a_file_for_its_medium_and_each_role(name: str, modality: str, keys: list[str]) -> None:
    assert [key.name for key in sample_keys(CONDITIONS[name], modality)] == keys


def test_a_key_carries_type_default_help_unit_and_range() -> None:
    found = {key.name: key for key in training_keys(CONDITIONS["prefix"])}
    boundary, probability = found["temporal_boundary"], found["probability"]
    assert (boundary.kind, boundary.required, boundary.unit, boundary.bounds) == (int, True, "latent frames", Bounds(at_least=1))
    assert boundary.help == "number of latent frames (for audio: latent steps) that are given"
    assert (probability.kind, probability.default, probability.bounds) == (float, 1.0, Bounds(at_least=0, at_most=1))


def test_a_length_may_be_left_open_in_a_sample() -> None:
    found = {key.name: key for key in sample_keys(CONDITIONS["prefix"], "video")}
    assert (found["temporal_boundary"].kind, found["temporal_boundary"].default) == (int | None, None)
    assert (found["num_frames"].unit, found["duration"].unit) == ("pixel frames", "seconds")


def test_files_are_paths_that_must_exist() -> None:
    found = {key.name: key for key in sample_keys(CONDITIONS["mask"], "audio")}
    assert (found["mask"].kind, found["mask"].reads, found["audio"].reads) == (Path, "file", "file")


@attrs.frozen
class Several:
    """Fields of all kinds."""

    plain: Any
    _private: int = 3
    both: float = attrs.field(default=1.0, validator=attrs.validators.and_(attrs.validators.gt(0), attrs.validators.le(2)))
    hidden: int = attrs.field(default=0, init=False)


def test_keys_are_what_the_class_takes() -> None:
    plain, private, both = keys_of(Several)
    assert (plain.name, plain.kind, plain.required) == ("plain", Any, True)
    assert (private.name, private.default) == ("private", 3)
    assert both.bounds == Bounds(above=0, at_most=2)


def test_a_class_that_is_not_attrs_has_no_keys() -> None:
    with pytest.raises(PluginError) as caught:
        keys_of(int)
    assert str(caught.value) == "<class 'int'> is not an attrs class, so it has no keys"


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (attrs.field(default=10**5000), "the default of Own.every cannot be written in a run file: a whole number is too large"),
        (attrs.field(default=[1, -(10**30)]), "the default of Own.every cannot be written in a run file: a whole number is too large"),
        (attrs.field(default=2, metadata={"help": 10**5000}), "the help of Own.every is of the type int; it must be text"),
        (attrs.field(default=2, metadata={"unit": ["s"]}), "the unit of Own.every is of the type list; it must be text"),
    ],
    ids=["default", "default in a list", "help", "unit"],
)
def test_a_key_that_no_list_of_keys_can_show_is_refused(field: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        keys_of(attrs.make_class("Own", {"every": field}))
