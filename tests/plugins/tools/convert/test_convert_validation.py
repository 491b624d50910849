"""Validation samples with their conditions, the lists of older configurations, and older words for guidance."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.converted_configs import converted, refused, remarks, strategy, values, with_validation

WRITTEN = (
    ({"type": "first_frame", "image_or_video": "a.png"}, None),
    ({"type": "prefix", "video": "a.mp4", "num_frames": 57}, None),
    ({"type": "suffix", "audio": "a.wav", "duration": 1.5}, None),
    ({"type": "spatial_crop", "video": "a.mp4", "spatial_region": [0, 0, 288, 576]}, None),
    ({"type": "mask", "audio": "a.wav", "mask": "m.wav"}, None),
    ({"type": "reference", "video": "a.mp4", "downscale_factor": 2, "temporal_scale_factor": 3, "include_in_output": True}, None),
    ({"type": "reference", "audio": "a.wav"}, None),
    ({"type": "video_to_audio", "video": "a.mp4"}, None),
    ({"type": "audio_to_video", "audio": "a.wav"}, None),
    ({"type": "prefix", "video": "a.mp4", "num_frames": None, "duration": None, "audio": None}, {"type": "prefix", "video": "a.mp4"}),
)


def samples(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = values(text)["validation"]["samples"]
    return found


def one(**condition: Any) -> str:
    return with_validation(samples=[{"prompt": "A bird.", "conditions": [condition]}], generate_video=False, negative_prompt="x")


@pytest.mark.parametrize(("old", "new"), WRITTEN, ids=[f"{old['type']}-{index}" for index, (old, _) in enumerate(WRITTEN)])
def test_every_condition_of_a_sample_is_carried_over(old: dict[str, Any], new: dict[str, Any] | None) -> None:
    text = one(**old)
    assert samples(text) == [{"prompt": "A bird.", "conditions": [new or old]}]
    assert remarks(text) == []


@pytest.mark.parametrize(
    ("condition", "key", "medium"),
    [
        ({"type": "prefix", "video": "a.mp4", "duration": 2.0}, "duration", "video"),
        ({"type": "suffix", "audio": "a.wav", "num_frames": 9}, "num_frames", "audio"),
        ({"type": "reference", "audio": "a.wav", "include_in_output": True}, "include_in_output", "audio"),
        ({"type": "reference", "audio": "a.wav", "downscale_factor": 2}, "downscale_factor", "audio"),
    ],
)
def test_a_key_that_did_nothing_is_told(condition: dict[str, Any], key: str, medium: str) -> None:
    text = one(**condition)
    (said,) = remarks(text)
    assert said.endswith(
        f"validation.samples[0].conditions[0].{key} is not converted: it does not apply to {medium}, and had no effect in ltx-trainer."
    )
    assert key not in samples(text)[0]["conditions"][0]


def test_a_sample_of_its_own_size_and_seed_keeps_them() -> None:
    text = with_validation(
        samples=[{"prompt": "A", "video_dims": [64, 64, 17], "seed": 3}, {"prompt": "B", "video_dims": None, "seed": None}]
    )
    assert samples(text) == [{"prompt": "A", "video_dims": [64, 64, 17], "seed": 3}, {"prompt": "B"}]


def test_a_seed_of_0_is_pointed_at() -> None:
    text = converted(with_validation(samples=[{"prompt": "A", "seed": 0}])).text
    assert "# ltx-trainer treated 0 as not set, and used validation.seed.\nseed = 0\n" in text


def test_what_is_wrong_with_samples_is_told_with_its_line() -> None:
    bad = [
        {"conditions": []},
        {"prompt": None, "conditions": [{"type": "prefix"}, {"type": "mask", "video": "a", "audio": "b", "mask": "c"}, {"type": "first"}]},
        {"prompt": "A", "seed": "x", "conditions": [{"type": "spatial_crop", "video": []}, {"type": "reference", "video": ["a"]}]},
    ]
    assert refused(with_validation(samples=bad)) == (
        "old.yaml:14: validation.samples[0].prompt: is missing\n"
        "old.yaml:15: validation.samples[1].prompt: must be text, not null\n"
        "old.yaml:17: validation.samples[1].conditions[0]: names neither video nor audio\n    Name only one of the two.\n"
        "old.yaml:18: validation.samples[1].conditions[1]: names both video and audio\n    Name only one of the two.\n"
        'old.yaml:22: validation.samples[1].conditions[2].type: there is no condition "first"\n    '
        "Known: audio_to_video, first_frame, mask, prefix, reference, spatial_crop, suffix, video_to_audio.\n"
        'old.yaml:24: validation.samples[2].seed: must be a whole number, not the text "x"\n'
        "old.yaml:26: validation.samples[2].conditions[0].spatial_region: is missing\n"
        "old.yaml:27: validation.samples[2].conditions[0].video: must be a path, not an empty list\n"
        "old.yaml:30: validation.samples[2].conditions[1].video: must be a path, not a list"
    )


# ---------------------------------------------------------------- what is generated


def test_what_was_generated_by_default_still_is() -> None:
    found = values(with_validation(samples=[{"prompt": "A"}]))["validation"]
    assert found["generate_video"] is True
    assert "generate_audio" not in found, "it is trained, so that it is generated anyway"
    video = {"is_generated": True, "latents_dir": "latents"}
    text = strategy(video=video) + "validation:\n  generate_audio: false\n  samples: [{prompt: A}]\n"
    assert values(text)["validation"]["generate_audio"] is False
    assert "generate_audio" not in values(with_validation(interval=5))["validation"]


def test_a_negative_prompt_that_is_not_written_is_pointed_at() -> None:
    said = "# negative_prompt: the default of ltx is a different text."
    assert said in converted(with_validation(samples=[{"prompt": "A"}])).text
    assert said not in converted(with_validation(samples=[{"prompt": "A"}], negative_prompt="blurred")).text
    assert said not in converted(with_validation(interval=5)).text


# ---------------------------------------------------------------- older lists


def test_prompts_with_images_and_references_become_samples() -> None:
    text = with_validation(
        prompts=["A", "B"],
        images=["a.png", "b.png"],
        reference_videos=["a.mp4", "b.mp4"],
        reference_downscale_factor=2,
        include_reference_in_output=True,
    )
    reference = {"type": "reference", "downscale_factor": 2, "include_in_output": True}
    assert samples(text) == [
        {
            "prompt": name.upper(),
            "conditions": [{"type": "first_frame", "image_or_video": f"{name}.png"}, {**reference, "video": f"{name}.mp4"}],
        }
        for name in "ab"
    ]
    assert remarks(text) == []


def test_prompts_alone_become_samples_without_conditions() -> None:
    assert samples(with_validation(prompts=["A", "B"], images=None, reference_videos=None)) == [{"prompt": "A"}, {"prompt": "B"}]


def test_lists_of_other_lengths_than_the_prompts_are_refused() -> None:
    assert refused(with_validation(prompts=["A", "B"], images=["a.png"])) == ("old.yaml:16: validation.images: has 1 entry for 2 prompts")
    assert refused(with_validation(prompts=["A"], reference_videos=["a.mp4", "b.mp4"])) == (
        "old.yaml:15: validation.reference_videos: has 2 entries for 1 prompt"
    )


def test_prompts_beside_samples_were_not_read_and_are_told() -> None:
    text = with_validation(samples=[{"prompt": "A"}], prompts=["B"], images=["b.png"])
    assert remarks(text) == [
        "line 15 of the old file: validation.prompts is not converted: samples took precedence over it.",
        "line 17 of the old file: validation.images is not converted: samples took precedence over it.",
    ]
    assert samples(text) == [{"prompt": "A"}]


def test_images_without_prompts_are_told() -> None:
    assert remarks(with_validation(images=["a.png"])) == [
        "line 13 of the old file: validation.images is not converted: there are no prompts for it."
    ]


# ---------------------------------------------------------------- older guidance


def guidance(**keys: Any) -> dict[str, Any]:
    found = values(with_validation(**keys))["validation"]
    return {key: value for key, value in found.items() if key.endswith("_scale")}


def test_one_guidance_scale_was_for_both() -> None:
    assert guidance(guidance_scale=4) == {"video_cfg_scale": 4.0, "audio_cfg_scale": 4.0}


def test_stg_mode_says_whether_stg_scale_is_for_the_sound_too() -> None:
    assert guidance(stg_scale=2.0, stg_mode="stg_av") == {"video_stg_scale": 2.0, "audio_stg_scale": 2.0}
    assert guidance(stg_scale=2.0, stg_mode="stg_v") == {"video_stg_scale": 2.0, "audio_stg_scale": 0.0}
    assert guidance(stg_scale=2.0) == {"video_stg_scale": 2.0, "audio_stg_scale": 2.0}
    assert guidance(stg_mode="stg_v") == {"video_stg_scale": 1.0, "audio_stg_scale": 0.0}


def test_older_and_newer_words_together_are_refused() -> None:
    text = with_validation(guidance_scale=4.0, video_cfg_scale=3.0, stg_mode="stg_x", stg_scale=1.0, video_stg_scale=1, audio_stg_scale=1)
    assert refused(text) == (
        "old.yaml:13: validation.guidance_scale: means the same as video_cfg_scale\n    Keep only one of these keys.\n"
        'old.yaml:15: validation.stg_mode: must be "stg_av" or "stg_v", not the text "stg_x"\n'
        "old.yaml:16: validation.stg_scale: means the same as video_stg_scale and audio_stg_scale\n    Keep only one of these keys."
    )
