"""Lengths of conditions: latent frames, pixel frames, seconds, or a medium's own."""

from __future__ import annotations

from fractions import Fraction

import pytest

from helpers.sample_made import condition
from ltxcore.errors import ConfigError
from ltxcore.sample.media_parts import latent_frames
from ltxcore.state import Grid

VIDEO, AUDIO = Grid(5, 2, 2), Grid(27, scale=(4, 1, 1))
RATE = Fraction(16)


def frames(type: str, modality: str = "video", medium: Grid | None = None, **rest: object) -> int | None:
    return latent_frames(condition(type, modality, **rest), AUDIO if modality == "audio" else VIDEO, medium, RATE, "here")


def refused(type: str, **rest: object) -> str:
    with pytest.raises(ConfigError) as error:
        frames(type, **rest)
    return str(error.value)


def test_pixel_frames_at_the_start_are_a_single_one_and_groups_of_eight() -> None:
    assert [frames("prefix", num_frames=count) for count in (1, 9, 17)] == [1, 2, 3]


def test_pixel_frames_at_the_end_are_groups_of_eight() -> None:
    assert [frames("suffix", num_frames=count) for count in (8, 16)] == [1, 2]


def test_seconds_of_a_picture_are_the_whole_latent_frames_in_them() -> None:
    assert [frames("prefix", duration=seconds) for seconds in (0.1, 0.5, 0.5625, 1.0625)] == [1, 1, 2, 3]
    assert [frames("suffix", duration=seconds) for seconds in (0.5, 0.9, 1.0)] == [1, 1, 2]


def test_seconds_of_a_sound_are_what_the_codec_makes_of_so_many() -> None:
    # 0.5 s: 50 hops, so 51 mel frames, the first alone: 12.5 groups of four are 13 steps with it.
    assert [frames("prefix", "audio", duration=seconds) for seconds in (0.04, 0.5, 1.0)] == [2, 13, 26]
    assert frames("suffix", "audio", duration=0.5) == 13


def test_without_either_a_condition_is_as_long_as_its_medium_but_no_longer_than_what_is_drawn() -> None:
    assert frames("prefix", medium=Grid(2, 2, 2)) == 2
    assert frames("suffix", medium=Grid(9, 2, 2)) == 5
    assert frames("first_frame") is None


@pytest.mark.parametrize(
    ("type", "asked", "expected"),
    [
        (
            "prefix",
            {"num_frames": 8},
            "here.num_frames: 8 pixel frames at the start are not a whole number of latent frames\n    Use 1 or 9: a multiple of 8 plus 1.",
        ),
        (
            "suffix",
            {"num_frames": 9},
            "here.num_frames: 9 pixel frames at the end are not a whole number of latent frames\n    Use 8 or 16: a multiple of 8.",
        ),
        (
            "suffix",
            {"num_frames": 3},
            "here.num_frames: 3 pixel frames at the end are not a whole number of latent frames\n    Use 8: a multiple of 8.",
        ),
        ("prefix", {"duration": 0.05}, "here.duration: 0.05 seconds is shorter than one latent frame\n    Use at least 0.063 seconds."),
        ("suffix", {"duration": 0.4}, "here.duration: 0.4 seconds is shorter than one latent frame\n    Use at least 0.500 seconds."),
    ],
)
def test_lengths_that_are_no_latent_frames_are_refused_with_those_that_are(type: str, asked: dict[str, float], expected: str) -> None:
    assert refused(type, **asked) == expected
