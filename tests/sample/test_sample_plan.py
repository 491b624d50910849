"""What samples use of their media, and everything that is wrong with a sample found from headers."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import torch

from helpers.sample_made import clip_file, condition, film, freeze, half_mask, image_file, info, message, planned, request, sound_file
from ltxcore.api import Inputs, LatentState, Role
from ltxcore.conditions import AskedCondition
from ltxcore.errors import ConfigError, DataError, LtxError
from ltxcore.sample.cuts import ClipCut, SoundCut
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.media_needs import Planned, plan_generations


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    film(folder / "film.mp4")
    film(folder / "long.mp4", 33)
    clip_file(folder / "short.mp4", 9)
    clip_file(folder / "slow.mp4", 17, rate=12.0)
    image_file(folder / "image.png")
    half_mask(folder / "mask.png")
    sound_file(folder / "sound.wav")
    sound_file(folder / "short.wav", 0.5)
    sound_file(folder / "long.wav", 2.0, rate=44_100, channels=2)
    return folder


def refused(media: Path, *conditions: AskedCondition, **rest: object) -> str:
    with pytest.raises(LtxError) as error:
        planned(*conditions, **rest)
    return message(error.value, media)


def cut_of(what: Planned) -> ClipCut:
    (one,) = what.conditions
    found = one.medium or next(iter(one.media.values()))
    assert isinstance(found, ClipCut)
    return found


def heard(what: Planned) -> SoundCut:
    (one,) = what.conditions
    found = one.medium or next(iter(one.media.values()))
    assert isinstance(found, SoundCut)
    return found


# ---------------------------------------------------------------- what is used of a file


def test_of_a_clip_no_more_is_read_than_its_condition_gives(media: Path) -> None:
    assert cut_of(planned(condition("first_frame", medium=media / "film.mp4"))).size.frames == 1
    assert cut_of(planned(condition("prefix", medium=media / "film.mp4", num_frames=9))).size.frames == 9
    assert cut_of(planned(condition("prefix", medium=media / "film.mp4", fields={"temporal_boundary": 2}))).size.frames == 9


def test_a_file_of_which_a_single_picture_is_given_nothing_is_noted(media: Path) -> None:
    (note,) = planned(condition("first_frame", medium=media / "image.png"), video_dims=(64, 64, 1)).notes
    assert note.endswith("a sample of this length is given nothing by first_frame, so its file is not used")
    assert planned(condition("first_frame", medium=media / "image.png")).notes == ()


def test_a_prefix_is_as_long_as_its_medium(media: Path) -> None:
    found = planned(condition("prefix", medium=media / "short.mp4"))
    assert (cut_of(found).size.frames, found.conditions[0].use.condition.temporal_boundary) == (9, 2)
    found = planned(condition("prefix", "audio", medium=media / "short.wav"))
    assert found.conditions[0].use.condition.temporal_boundary == 13


def test_the_end_of_a_longer_medium_is_what_a_suffix_gives_with_all_that_fits_before_it(media: Path) -> None:
    cut = cut_of(planned(condition("suffix", medium=media / "long.mp4", num_frames=8)))
    assert (cut.size.frames, cut.from_end) == (17, True)
    sound = heard(planned(condition("suffix", "audio", medium=media / "long.wav", duration=0.4)))
    assert sound.sound.samples.shape == (2, 17_000)


def test_media_longer_than_what_is_drawn_are_cut(media: Path) -> None:
    found = planned(frozen=[freeze("video", media / "long.mp4")])
    assert found.frozen["video"].size.frames == 17
    found = planned(frozen=[freeze("audio", media / "long.wav")])
    assert found.frozen["audio"].sound.samples.shape == (2, 17_000)


def test_a_frozen_sound_may_end_before_the_picture(media: Path) -> None:
    assert planned(frozen=[freeze("audio", media / "short.wav")]).frozen["audio"].steps((4, 1, 1)) == 13


def test_a_clip_of_any_rate_is_used_frame_by_frame_and_the_user_is_told(media: Path) -> None:
    found = planned(condition("prefix", medium=media / "slow.mp4", num_frames=9))
    assert found.notes == (f"{media}/slow.mp4 has 12 frames per second and is used frame by frame at 16: it plays 1.33 times faster",)
    assert planned(condition("first_frame", medium=media / "slow.mp4")).notes == ()
    assert planned(condition("first_frame", medium=media / "image.png")).notes == ()
    (note,) = planned(frozen=[freeze("video", media / "film.mp4")], frame_rate=8.0).notes
    assert note.endswith("used frame by frame at 8: it plays 2.00 times slower")


def test_a_reference_is_smaller_and_has_fewer_frames_by_its_factors(media: Path) -> None:
    asked = condition("reference", media={"reference": media / "long.mp4"}, downscale_factor=2, temporal_scale_factor=2)
    found = planned(asked, video_dims=(128, 64, 33))
    cut = cut_of(found)
    assert (str(cut.size), cut.factor) == ("64x32x17", 2)
    assert found.canvas.rate_of(cut, found.conditions[0]) == 8.0


def test_a_reference_may_be_shorter_or_a_picture(media: Path) -> None:
    assert cut_of(planned(condition("reference", media={"reference": media / "short.mp4"}))).size.frames == 9
    assert cut_of(planned(condition("reference", media={"reference": media / "image.png"}))).size.frames == 1
    still = planned(condition("reference", media={"reference": media / "image.png"}, temporal_scale_factor=2))
    assert still.canvas.rate_of(cut_of(still), still.conditions[0]) == 16.0


# ---------------------------------------------------------------- what is refused


def test_a_file_without_what_it_is_named_for_is_refused_with_its_condition(media: Path) -> None:
    assert refused(media, condition("first_frame", medium=media / "sound.wav", index=1)) == (
        "validation.samples.0.conditions.1: TMP/sound.wav: this file has no video\n    Name a clip or an image."
    )
    assert refused(media, frozen=[freeze("audio", media / "image.png", 2)]) == (
        "validation.samples.0.conditions.2: TMP/image.png: this file has no audio\n"
        "    Name a file with audio, or leave out the audio of this sample."
    )


def test_media_that_must_cover_what_is_drawn_and_are_shorter_are_refused(media: Path) -> None:
    remedy = "    Name a longer file, or generate fewer frames with video_dims."
    assert refused(media, condition("spatial_crop", medium=media / "short.mp4", fields={"spatial_region": (0, 0, 32, 64)})) == (
        f"validation.samples.0.conditions.0: TMP/short.mp4: has 9 frames, but 17 are generated\n{remedy}"
    )
    assert refused(media, frozen=[freeze("video", media / "image.png")]) == (
        f"validation.samples.0.conditions.0: TMP/image.png: has 1 frame, but 17 are generated\n{remedy}"
    )
    asked = condition("mask", "audio", medium=media / "short.wav", masks={"mask": media / "sound.wav"})
    assert refused(media, asked) == (
        f"validation.samples.0.conditions.0: TMP/short.wav: lasts 0.500 s, but 1.062 s are generated\n{remedy}"
    )


def test_a_condition_as_long_as_its_medium_that_leaves_nothing_says_how_to_shorten_it(media: Path) -> None:
    assert refused(media, condition("prefix", medium=media / "film.mp4")) == (
        "validation.samples.0.conditions.0: a prefix of 3 latent frames leaves nothing to generate in a sample of 3 latent frames\n"
        "    The condition is as long as its medium unless num_frames or duration says how much of the medium is given."
    )
    assert refused(media, condition("suffix", "audio", medium=media / "long.wav")) == (
        "validation.samples.0.conditions.0: a suffix of 27 latent frames leaves nothing to generate in a sample of 27 latent frames\n"
        "    The condition is as long as its medium unless duration says how much of the medium is given."
    )


def test_a_condition_longer_than_its_medium_is_refused(media: Path) -> None:
    assert refused(media, condition("prefix", medium=media / "image.png", num_frames=9)) == (
        "validation.samples.0.conditions.0: the medium covers only 1 of the 3 latent frames of the target, but the condition gives others too\n"
        "    Use a longer medium, or give less."
    )


def test_what_a_condition_itself_refuses_is_said_with_its_place(media: Path) -> None:
    assert refused(media, condition("spatial_crop", medium=media / "film.mp4", fields={"spatial_region": (0, 0, 16, 16)})) == (
        "validation.samples.0.conditions.0: the region [0, 0, 16, 16] selects none of 2 x 2 latent cells\n"
        "    A cell is 32 x 32 pixels; choose a region that covers part of the 64 x 64 picture."
    )


def test_everything_that_is_wrong_is_found_at_once(media: Path) -> None:
    first = request(
        condition("first_frame", medium=media / "sound.wav"), condition("prefix", medium=media / "film.mp4", num_frames=3, index=1)
    )
    second = attrs.evolve(first, where="validation.samples.1")
    with pytest.raises(DataError) as error:
        plan_generations([first, second], modalities_of(info()))
    assert [problem.where.replace(str(media), "TMP") for problem in error.value.problems] == [
        "validation.samples.0.conditions.0: TMP/sound.wav",
        "validation.samples.0.conditions.1.num_frames",
        "validation.samples.1.conditions.0: TMP/sound.wav",
        "validation.samples.1.conditions.1.num_frames",
    ]


# ---------------------------------------------------------------- factors


def reference(path: Path, **factors: int) -> AskedCondition:
    return condition("reference", media={"reference": path}, **factors)


def test_factors_that_leave_no_whole_cells_are_refused(media: Path) -> None:
    assert refused(media, reference(media / "film.mp4", downscale_factor=4), video_dims=(128, 64, 17)) == (
        "validation.samples.0.conditions.0.downscale_factor: the generated clip has height 64, and 64 divided by downscale_factor 4 is not a multiple of 32\n"
        "    Use another factor, or other video_dims."
    )
    assert refused(media, reference(media / "film.mp4", temporal_scale_factor=3)) == (
        "validation.samples.0.conditions.0.temporal_scale_factor: taking every 3rd of 17 generated frames does not give whole latent frames\n"
        "    Generate 25 frames, or use another factor."
    )
    assert refused(media, reference(media / "film.mp4", temporal_scale_factor=2), video_dims=(64, 64, 41)).endswith(
        "Generate 33 or 49 frames, or use another factor."
    )


def test_a_reference_with_fewer_frames_a_second_must_be_as_long_as_what_is_drawn(media: Path) -> None:
    assert refused(media, reference(media / "short.mp4", temporal_scale_factor=2)) == (
        "validation.samples.0.conditions.0: TMP/short.mp4: has 9 frames, but 17 are generated, and every 2nd frame is taken\n"
        "    Name a longer file: a reference with fewer frames per second must be as long as the generated clip."
    )


def test_declared_factors_are_those_that_the_lora_was_trained_with(media: Path) -> None:
    trained = {"reference_downscale_factor": "2"}
    found = planned(reference(media / "film.mp4", downscale_factor=2), factors=trained)
    assert str(cut_of(found).size) == "32x32x17"
    with pytest.raises(ConfigError) as error:
        planned(reference(media / "film.mp4"), factors=trained)
    assert str(error.value) == (
        "validation.samples.0.conditions.0.downscale_factor: is 1, but the LoRA was trained with 2\n    Write downscale_factor = 2, or name other media."
    )
    assert refused(media, reference(media / "film.mp4", temporal_scale_factor=2), factors={}) == (
        "validation.samples.0.conditions.0.temporal_scale_factor: is 2, but the LoRA was trained with 1\n"
        "    Write temporal_scale_factor = 1, or name other media."
    )
    planned(
        reference(media / "image.png", downscale_factor=2, temporal_scale_factor=1),
        factors={**trained, "reference_temporal_scale_factor": "2"},
    )


def test_each_of_several_references_has_factors_that_the_lora_was_trained_with(media: Path) -> None:
    small = {"reference_downscale_factor": "2", "reference_temporal_scale_factor": "2"}
    trained = {
        "references": json.dumps([{"modality": "video", "latents_dir": "pose"}, {"modality": "video", "latents_dir": "depth", **small}])
    }
    both = reference(media / "film.mp4"), reference(media / "film.mp4", downscale_factor=2, temporal_scale_factor=2)
    assert [str(each.media["reference"].size) for each in planned(*both, factors=trained).conditions] == ["64x64x17", "32x32x9"]
    with pytest.raises(ConfigError) as error:
        planned(reference(media / "film.mp4", downscale_factor=4), factors=trained, video_dims=(128, 128, 17))
    assert str(error.value) == (
        "validation.samples.0.conditions.0.downscale_factor: is 4, but the LoRA was trained with 1 or 2\n"
        "    Write downscale_factor = 1 or downscale_factor = 2, or name other media."
    )
    with pytest.raises(ConfigError) as error:
        planned(reference(media / "film.mp4", downscale_factor=2), factors=trained)
    one, two = (f"downscale_factor = {number}, temporal_scale_factor = {number}" for number in (1, 2))
    assert str(error.value) == (
        "validation.samples.0.conditions.0: has downscale_factor = 2, temporal_scale_factor = 1, "
        f"but the LoRA was trained with {one} or {two}\n    Write one of these pairs, or name other media."
    )


# ---------------------------------------------------------------- strangers


@attrs.frozen
class Ends:
    """Gives the first and the last latent frame."""

    modalities = frozenset({"video", "audio"})
    content = "whole"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame == 0) | (state.grid.frame == state.grid.frames - 1))


@attrs.frozen
class Opening:
    """Gives a number of steps of its own counting, under a role it also has."""

    modalities = frozenset({"video"})
    content = "start"
    roles = (Role("other", source_key="other_dir", kind="latents"),)

    steps: int = attrs.field(metadata={"unit": "latent frames"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        assert inputs.latents("other").grid == state.grid
        return state.given(state.grid.frame < self.steps)


def test_conditions_of_strangers_are_planned_like_any_other(media: Path) -> None:
    found = planned(condition("ends", cls=Ends, medium=media / "film.mp4"))
    assert cut_of(found).size.frames == 17
    one = condition("opening", cls=Opening, medium=media / "short.mp4", media={"other": media / "film.mp4"})
    found = planned(one)
    assert found.conditions[0].use.condition == Opening(2)
    assert [cut.size.frames for cut in found.conditions[0].media.values()] == [17]


def test_empty_tokens_take_no_memory(media: Path) -> None:
    blank = planned(video_dims=(992, 544, 89)).canvas.empty("video")
    assert blank.clean.shape == (1, 12 * 17 * 31, 128)
    assert blank.clean.untyped_storage().nbytes() == 4
    assert torch.equal(blank.clean, torch.zeros(1).expand_as(blank.clean))
