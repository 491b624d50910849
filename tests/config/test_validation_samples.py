"""Validation samples take the conditions of training, with media files in place of source folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.run_files import Load, Mistakes
from ltxcore.conditions import AskedCondition
from ltxcore.config.validation_samples import Freeze, ValidationSample, ValidationTable

Sample = Callable[[str], ValidationSample]

MEDIA = ("start.png", "clip.mp4", "sound.wav", "mask.mp4", "mask.wav")

PULSE = """
import attrs

from ltxcore.api import Inputs, LatentState, Role, hookimpl


@attrs.frozen
class Pulse:
    modalities = frozenset({"video", "audio"})
    roles = (Role("beat", source_key="beat_dir", kind="mask"),)

    duration: float = 1.0

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(inputs.mask("beat"))


@attrs.frozen
class Echo:
    modalities = frozenset({"audio"})
    content = "start"
    roles = (Role("echo", source_key="echo_dir", kind="latents"), Role("room", source_key="room_dir", kind="latents", media_key="room_file"))
    appends = True

    steps: int = attrs.field(default=2, metadata={"unit": "latent frames"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state


@hookimpl
def ltx_conditions():
    return {"pulse": Pulse, "echo": Echo}
"""


@pytest.fixture
def sample(load: Load, minimal: str, folder: Path) -> Sample:
    """A validation sample with these conditions, from a run file beside MEDIA."""
    for name in MEDIA:
        (folder / name).touch()

    def read(conditions: str) -> ValidationSample:
        (read,) = load(minimal + f"[[validation.samples]]\nprompt = 'a tone'\nconditions = [{conditions}]\n").config.validation.samples
        return read

    return read


@pytest.fixture
def wrong(mistakes: Mistakes, minimal: str, folder: Path) -> Mistakes:
    """What is wrong with a sample with these conditions, which stand in line 12."""
    for name in MEDIA:
        (folder / name).touch()

    def message(conditions: str, before: str = "") -> str:
        return mistakes(before + minimal + f"[[validation.samples]]\nprompt = 'a tone'\nconditions = [{conditions}]\n")

    return message


def only(sample: ValidationSample) -> AskedCondition:
    (condition,) = sample.conditions
    return condition


def test_a_sample_has_its_prompt_sizes_and_seed(load: Load, minimal: str) -> None:
    text = (
        minimal + "[[validation.samples]]\nprompt = 'a tone'\nseed = 0\nvideo_dims = [64, 96, 17]\n[[validation.samples]]\nprompt = 'two'\n"
    )
    first, second = load(text).config.validation.samples
    assert (first.prompt, first.seed, first.video_dims) == ("a tone", 0, (64, 96, 17))
    assert (second.prompt, second.seed, second.video_dims, second.conditions) == ("two", None, None, [])


def test_first_frame_takes_an_image_or_a_video(sample: Sample, folder: Path) -> None:
    for key, name in (("image_or_video", "start.png"), ("video", "clip.mp4")):
        found = only(sample(f"{{ type = 'first_frame', {key} = '{name}' }}"))
        assert (found.type, found.modality, found.medium, found.media) == ("first_frame", "video", folder / name, {})


def test_the_key_of_the_medium_says_which_modality_a_condition_works_on(sample: Sample, folder: Path) -> None:
    for key, name in (("video", "clip.mp4"), ("audio", "sound.wav")):
        found = only(sample(f"{{ type = 'suffix', {key} = '{name}', duration = 1.5 }}"))
        assert (found.modality, found.medium, found.duration, found.num_frames, dict(found.fields)) == (key, folder / name, 1.5, None, {})


def test_a_number_of_latent_frames_may_be_left_open_until_the_grid_is_known(sample: Sample) -> None:
    asked = {"": 5, ", num_frames = 33": 5, ", temporal_boundary = 3": 3}
    for text, length in asked.items():
        found = only(sample(f"{{ type = 'prefix', video = 'clip.mp4'{text} }}"))
        assert found.of_length(5).condition.temporal_boundary == length


def test_a_mask_has_a_medium_and_a_file_for_its_role(sample: Sample, folder: Path) -> None:
    found = only(sample("{ type = 'mask', audio = 'sound.wav', mask = 'mask.wav' }"))
    assert (found.modality, found.medium, found.masks) == ("audio", folder / "sound.wav", {"mask": folder / "mask.wav"})


def test_a_spatial_crop_keeps_the_keys_of_its_class(sample: Sample) -> None:
    found = only(sample("{ type = 'spatial_crop', video = 'clip.mp4', spatial_region = [0, 0, 32, 64] }"))
    assert found.of_length().condition.spatial_region == (0, 0, 32, 64)


def test_a_reference_names_its_role_by_the_modality(sample: Sample, folder: Path) -> None:
    found = only(
        sample("{ type = 'reference', video = 'clip.mp4', downscale_factor = 2, temporal_scale_factor = 3, include_in_output = true }")
    )
    assert (found.modality, found.medium, found.media) == ("video", None, {"reference": folder / "clip.mp4"})
    assert (found.downscale_factor, found.temporal_scale_factor, found.include_in_output) == (2, 3, True)
    heard = only(sample("{ type = 'reference', audio = 'sound.wav' }"))
    assert (heard.modality, heard.media) == ("audio", {"reference": folder / "sound.wav"})


def test_a_modality_may_be_frozen_by_a_medium(sample: Sample, folder: Path) -> None:
    found = sample("{ type = 'video_to_audio', video = 'clip.mp4' }, { type = 'prefix', audio = 'sound.wav' }")
    assert found.frozen == [Freeze(modality="video", medium=folder / "clip.mp4")]
    assert found.frozen[0].type == "video_to_audio"
    assert only(found).type == "prefix"


def test_references_may_be_added_to_a_frozen_modality(sample: Sample) -> None:
    found = sample("{ type = 'audio_to_video', audio = 'sound.wav' }, { type = 'reference', audio = 'sound.wav' }")
    assert (only(found).type, found.frozen[0].modality) == ("reference", "audio")


def test_a_strangers_condition_says_its_modality_where_nothing_else_does(sample: Sample, load: Load, minimal: str, folder: Path) -> None:
    (folder / "pulse.py").write_text(PULSE)
    text = f"plugins = ['pulse.py']\n{minimal}[[validation.samples]]\nprompt = 'x'\nconditions = [\n"
    text += "  { type = 'pulse', modality = 'audio', beat = 'mask.wav', duration = 2 },\n"
    text += "  { type = 'echo', audio = 'sound.wav', echo = 'clip.mp4', room_file = 'mask.wav' },\n]\n"
    pulse, echo = load(text).config.validation.samples[0].conditions
    assert (pulse.modality, pulse.medium, pulse.duration, pulse.of_length().condition.duration) == ("audio", None, None, 2.0)
    assert (echo.medium, echo.media) == (folder / "sound.wav", {"echo": folder / "clip.mp4", "room": folder / "mask.wav"})
    assert echo.of_length(7).condition.steps == 7


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{ type = 'prefx', video = 'clip.mp4' }", '.type: there is no condition "prefx"\n    Did you mean "prefix"?'),
        (
            "{ video = 'clip.mp4' }",
            ".type: does not name any condition\n    Choose one: first_frame, hole, keyframes, mask, prefix, reference, spatial_crop, suffix.",
        ),
        ("{ type = 'prefix' }", ": does not say which modality it works on\n    Set video or image_or_video or audio."),
        (
            "{ type = 'prefix', video = 'clip.mp4', audio = 'sound.wav' }",
            ": names both video and audio, but a condition works on one modality\n    Write one condition for each modality.",
        ),
        ("{ type = 'first_frame' }", ": has no medium of its own\n    Set one of video and image_or_video to a file."),
        (
            "{ type = 'first_frame', video = 'clip.mp4', image_or_video = 'start.png' }",
            ": sets video, image_or_video\n    Set one of video and image_or_video to a file.",
        ),
        ("{ type = 'first_frame', video = 'gone.mp4' }", ".video: there is no file gone.mp4\n    Paths are relative to the run file."),
        (
            "{ type = 'first_frame', audio = 'sound.wav' }",
            ".audio: there is no such key\n    Known: image_or_video, level, type, video.\n"
            "run.toml:12: validation.samples[0].conditions[0]: has no medium of its own\n    Set one of video and image_or_video to a file.",
        ),
        ("{ type = 'mask', audio = 'sound.wav' }", ".mask: is missing\n    Add mask: a path, the mask of the condition."),
        (
            "{ type = 'mask', audio = 'sound.wav', mask = 'mask.wav', probability = 0.5 }",
            ".probability: there is no such key\n    Known: audio, mask, type.",
        ),
        (
            "{ type = 'mask', audio = 'sound.wav', mask = 'mask.wav', mask_dir = 'm' }",
            '.mask_dir: there is no such key\n    Did you mean "mask"?',
        ),
        ("{ type = 'reference' }", ": does not say which modality it works on\n    Set video or image_or_video or audio."),
        (
            "{ type = 'reference', audio = 'sound.wav', downscale_factor = 2 }",
            ".downscale_factor: there is no such key\n    Known: audio, level, strength, type.",
        ),
        ("{ type = 'reference', video = 'clip.mp4', downscale_factor = 0 }", ".downscale_factor: must be at least 1, not 0"),
        (
            "{ type = 'prefix', video = 'clip.mp4', temporal_boundary = 2, num_frames = 9 }",
            ": sets temporal_boundary and num_frames, which mean the same\n    Keep one of these keys.",
        ),
        (
            "{ type = 'prefix', video = 'clip.mp4', num_frames = 9, duration = 1 }",
            ": sets num_frames and duration, which mean the same\n    Keep one of these keys.",
        ),
        ("{ type = 'prefix', video = 'clip.mp4', temporal_boundary = 0 }", ".temporal_boundary: must be at least 1, not 0"),
        (
            "{ type = 'prefix', audio = 'sound.wav', num_frames = 9 }",
            ".num_frames: there is no such key\n    Known: audio, duration, level, temporal_boundary, type.",
        ),
        ("{ type = 'prefix', audio = 'sound.wav', duration = 0 }", ".duration: must be above 0, not 0"),
        (
            "{ type = 'spatial_crop', video = 'clip.mp4', spatial_region = [1, 1, 1, 1] }",
            ".spatial_region: the region [1, 1, 1, 1] is empty\n    Write [y1, x1, y2, x2] in pixels with 0 <= y1 < y2 and 0 <= x1 < x2.",
        ),
        (
            "{ type = 'keyframes', images = ['start.png'] }",
            ": does not say where images lie in the clip\n    Write a number for each: frames = [0, -1], or times in seconds.",
        ),
        (
            "{ type = 'keyframes', images = ['start.png'], frames = [0], times = [0.0] }",
            ": sets frames and times, which mean the same\n    Keep one of them.",
        ),
        (
            "{ type = 'keyframes', images = ['start.png', 'clip.mp4'], frames = [0] }",
            ": images has 2 entries, but frames has 1\n    Write one number in frames for each of images.",
        ),
        ("{ type = 'keyframes', images = [], frames = [] }", ": has no images\n    Name image files: images = [...]."),
        (
            "{ type = 'keyframes', images = ['gone.png'], frames = [0] }",
            ".images: there is no file gone.png\n    Paths are relative to the run file.",
        ),
        (
            "{ type = 'keyframes', images = ['start.png'], frames = [0], candidates = [0] }",
            ".candidates: is only for training\n    Remove the key: here, all files that are named are given.",
        ),
        ("{ type = 'video_to_audio' }", ".video: is missing\n    Add video: a path, the video that is given."),
        ("'mask'", ': must be a table, not the text "mask"'),
    ],
)
def test_a_condition_of_a_sample_that_is_wrong_says_how(wrong: Mistakes, condition: str, message: str) -> None:
    assert wrong(condition) == f"run.toml:12: validation.samples[0].conditions[0]{message}"


def test_a_sample_cannot_freeze_both_modalities(wrong: Mistakes) -> None:
    assert wrong("{ type = 'video_to_audio', video = 'clip.mp4' }, { type = 'audio_to_video', audio = 'sound.wav' }") == (
        "run.toml:12: validation.samples[0].conditions: freeze both modalities, so there is nothing to generate\n"
        "    Keep one of video_to_audio and audio_to_video."
    )


def test_a_frozen_modality_cannot_be_given_in_part(wrong: Mistakes) -> None:
    assert wrong("{ type = 'prefix', video = 'clip.mp4' }, { type = 'video_to_audio', video = 'clip.mp4' }") == (
        'run.toml:12: validation.samples[0].conditions[0].type: the condition "prefix" makes no sense on the frozen video, which is already given\n'
        "    Remove the condition, or the entry that freezes the video."
    )


def test_a_strangers_condition_without_a_medium_must_say_its_modality(wrong: Mistakes, folder: Path) -> None:
    (folder / "pulse.py").write_text(PULSE)
    assert wrong("{ type = 'pulse', beat = 'mask.wav' }", before="plugins = ['pulse.py']\n") == (
        "run.toml:13: validation.samples[0].conditions[0]: does not say which modality it works on\n    Set modality."
    )


def test_samples_that_draw_nothing_are_refused(mistakes: Mistakes, minimal: str) -> None:
    text = minimal + "[validation]\ngenerate_audio = false\ngenerate_video = false\nsamples = [{ prompt = 'x' }]\n"
    assert mistakes(text) == (
        "run.toml:10: validation: generates neither audio nor video\n    Set generate_audio or generate_video to true, or remove the samples."
    )


def test_conditions_that_are_no_list_are_refused(mistakes: Mistakes, minimal: str) -> None:
    text = minimal + "[[validation.samples]]\nprompt = 'x'\nconditions = { type = 'mask' }\n"
    assert mistakes(text) == (
        'run.toml:12: validation.samples[0].conditions: must be a list of tables\n    Write conditions = [{ type = "...", ... }].'
    )


def test_distilled_sigmas_switch_guidance_off_unless_the_file_sets_it() -> None:
    table = ValidationTable(sigmas="distilled")
    assert table.levels == (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
    assert (table.inference_steps, table.guidance_rescale, table.problems()) == (8, 0, [])
    assert [(table.video_cfg_scale, table.video_stg_scale, table.video_modality_guidance_scale)] * 2 == [
        (1, 0, 1),
        (table.audio_cfg_scale, table.audio_stg_scale, table.audio_modality_guidance_scale),
    ]
    assert ValidationTable(sigmas="distilled", video_cfg_scale=2.0).video_cfg_scale == 2
    usual = ValidationTable()
    own = ValidationTable(sigmas=[1.0, 0.5, 0.2, 0.0])
    assert (usual.levels, usual.inference_steps, own.inference_steps) == (None, 30, 3)
    assert own.video_cfg_scale == usual.video_cfg_scale == 3


@pytest.mark.parametrize("sigmas", ["[]", "[1.0, 0.0]", "[0.9, 0.5, 0.0]", "[1.0, 0.5, 0.1]", "[1.0, 0.5, 0.5, 0.0]"])
def test_sigmas_that_do_not_fall_from_1_to_0_are_refused(sigmas: str, mistakes: Mistakes, minimal: str) -> None:
    found = mistakes(minimal + f"[validation]\nsigmas = {sigmas}")
    assert "validation.sigmas: must fall from 1 to 0 in at least two steps" in found


def test_a_number_of_steps_that_contradicts_the_sigmas_is_refused(mistakes: Mistakes, minimal: str) -> None:
    found = mistakes(minimal + '[validation]\nsigmas = "distilled"\ninference_steps = 30')
    assert "validation.inference_steps: is 30, but sigmas gives 8 steps" in found
