"""What a `[validation]` table asks for: defaults, and what no medium could make right."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import attrs
import pytest

from helpers.sample_made import condition, freeze, info, request, sample, table
from ltxcore.conditions import AskedCondition
from ltxcore.config.validation_samples import ValidationSample, ValidationTable
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import ConfigError
from ltxcore.sample.guidance import Scales
from ltxcore.sample.request import requests

A, B = Path("a.mp4"), Path("b.wav")


def refused(*samples: ValidationSample, trained: frozenset[str] = frozenset({"video", "audio"}), **changed: object) -> str:
    with pytest.raises(ConfigError) as error:
        requests(table(*samples, **changed), trained, info())
    return str(error.value)


def test_a_sample_takes_what_it_does_not_say_from_the_table() -> None:
    first, second = requests(
        table(sample(prompt="one"), sample(prompt="two", seed=0, video_dims=(96, 64, 9)), seed=7, negative_prompt="no"),
        frozenset({"video", "audio"}),
        info(),
    )
    assert (first.prompt, first.negative_prompt, first.seed, first.size, first.rate, first.steps) == (
        "one",
        "no",
        7,
        Bucket(64, 64, 17),
        16.0,
        2,
    )
    assert (second.seed, second.size) == (0, Bucket(96, 64, 9))
    assert [each.where for each in (first, second)] == ["validation.samples.0", "validation.samples.1"]


def test_scales_are_those_of_each_modality() -> None:
    (found,) = requests(ValidationTable(samples=[sample()], video_dims=(64, 64, 17)), {"video"}, info())
    assert found.scales == {"video": Scales(3.0, 1.0, 3.0, 0.7), "audio": Scales(7.0, 1.0, 3.0, 0.7)}


@pytest.mark.parametrize(
    ("trained", "asked", "drawn"),
    [
        ({"video"}, {}, {"video"}),
        ({"audio"}, {}, {"audio"}),
        ({"video"}, {"generate_audio": True}, {"video", "audio"}),
        ({"video", "audio"}, {"generate_audio": False}, {"video"}),
        ({"audio"}, {"generate_audio": False, "generate_video": True}, {"video"}),
    ],
)
def test_what_is_drawn_is_what_is_trained_unless_the_table_says(trained: set[str], asked: dict[str, bool], drawn: set[str]) -> None:
    assert request(trained=frozenset(trained), **asked).generated == drawn


def test_a_frozen_modality_is_seen_and_not_drawn() -> None:
    found = request(frozen=[freeze("audio", B)])
    assert (found.generated, found.modalities, found.frozen) == ({"video"}, {"video", "audio"}, {"audio": B})


def test_seconds_are_as_exact_as_media_files_have_them() -> None:
    for told in (29.97, 30000 / 1001):  # a decimal of television's rate is that rate
        found = request(frame_rate=told)
        assert (found.seconds, found.rate) == (Fraction(17 * 1001, 30000), 30000 / 1001)
    assert request(frame_rate=12.5).seconds == Fraction(34, 25)


def test_a_condition_on_a_modality_that_the_sample_does_not_have_is_refused() -> None:
    assert refused(sample(condition("mask", "audio", medium=B, masks={"mask": B}, index=2)), generate_audio=False) == (
        'validation.samples.0.conditions.2: the condition "mask" works on audio, which this sample lacks\n'
        "    Set generate_audio = true, or remove the condition."
    )


def test_tokens_of_a_frozen_modality_cannot_be_given_but_others_added() -> None:
    frozen = [freeze("video", A)]
    assert refused(sample(condition("prefix", medium=A, index=1), frozen=frozen)) == (
        'validation.samples.0.conditions.1: the condition "prefix" makes no sense on the frozen video, which is already given\n'
        "    Remove the condition, or the entry that freezes the video."
    )
    assert request(condition("reference", media={"reference": A}), frozen=frozen).generated == {"audio"}


def test_a_sample_that_draws_nothing_is_refused() -> None:
    assert refused(sample(frozen=[freeze("video", A)]), generate_audio=False) == (
        "validation.samples.0: freezes the video, and no audio is generated\n    Set generate_audio = true."
    )
    assert refused(sample(frozen=[freeze("video", A), freeze("audio", B, 1)])) == (
        "validation.samples.0: freezes both modalities, so there is nothing to generate\n    Keep one of video_to_audio and audio_to_video."
    )
    assert refused(sample(frozen=[freeze("video", A), freeze("video", A, 1)])) == (
        "validation.samples.0: freezes the video twice\n    Keep one of them."
    )
    assert refused(sample(), trained=frozenset()) == (
        "validation.samples.0: generates neither video nor audio\n    Set generate_video or generate_audio to true."
    )


def test_sizes_that_the_codec_does_not_take_are_refused_all_at_once_and_once_each() -> None:
    other = sample(video_dims=(64, 64, 16))
    assert refused(sample(), sample(), other, video_dims=(64, 60, 17)) == (
        "validation.video_dims: a clip of 64x60x17 has height 60, which is not a multiple of 32\n    Use 32 or 64.\n"
        "validation.samples.2.video_dims: a clip of 64x64x16 has 16 frames, which is not a multiple of 8 plus 1\n    Use 9 or 17."
    )


def test_a_sound_alone_may_have_any_length() -> None:
    assert request(generate_video=False, video_dims=(1, 1, 20)).size.frames == 20


def test_the_default_block_lies_at_the_depth_of_the_model_and_others_must_be_there() -> None:
    assert request().stg_blocks == (2,)
    assert request(stg_blocks=[0, 3]).stg_blocks == (0, 3)
    assert request(stg_blocks=[]).stg_blocks == ()
    assert refused(sample(), stg_blocks=[3, 4, 28]) == (
        "validation.stg_blocks: there is no block 4\n    The model has 4, numbered from 0.\n"
        "validation.stg_blocks: there is no block 28\n    The model has 4, numbered from 0."
    )


def test_the_place_of_a_condition_is_that_in_its_list() -> None:
    one: AskedCondition = condition("first_frame", medium=A, index=3)
    found = request(one, frozen=[freeze("audio", B, 1)])
    assert found.place(one) == "validation.samples.0.conditions.3"
    assert found.place_of("audio") == "validation.samples.0.conditions.1"


def test_the_tiny_model_draws_the_size_that_it_was_trained_on_unless_another_is_asked_for() -> None:
    one = ValidationTable(samples=[sample()])
    asked = {
        "nothing": one,
        "a rate": attrs.evolve(one, frame_rate=8.0),
        "a size": attrs.evolve(one, video_dims=(96, 64, 9)),
    }
    found = {name: [(each.size, each.rate) for each in requests(table, {"video"}, info())] for name, table in asked.items()}
    assert found == {
        "nothing": [(Bucket(64, 64, 17), 16.0)],
        "a rate": [(Bucket(64, 64, 17), 8.0)],
        "a size": [(Bucket(96, 64, 9), 24.0)],
    }
    (real,) = requests(one, {"video"}, attrs.evolve(info(), generation="2.3", num_layers=48))
    assert (real.size, real.rate) == (Bucket(960, 544, 89), 24.0)
