"""Samples from media files to files that play, on the tiny base: what is given comes out as it went in, and what is frozen is untouched."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor

from helpers.media_made import psnr
from helpers.sample_made import (
    MODEL,
    backbone,
    clip_file,
    condition,
    drawn,
    encoded,
    film,
    freeze,
    half_mask,
    image_file,
    message,
    planned,
    request,
    sampler,
    sound_file,
)
from ltxcore.api import Inputs, LatentState
from ltxcore.codecs.source import Codecs
from ltxcore.conditions import AskedCondition
from ltxcore.errors import DataError
from ltxcore.media.probe import probe, read_clip, read_sound
from ltxcore.protocols import Clip, Sound
from ltxcore.sample.generate import Studio
from ltxcore.sample.outputs import shown, write

CODECS = {"video": MODEL.video(), "audio": MODEL.audio()}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    film(folder / "film.mp4")
    image_file(folder / "image.png")
    half_mask(folder / "mask.png")
    sound_file(folder / "sound.wav")
    clip_file(folder / "small.mp4", 17)
    return folder


@attrs.frozen
class Corners:
    """A stranger's: gives the corners of the picture, half."""

    modalities = frozenset({"video"})
    content = "whole"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        grid = state.grid
        return state.given(((grid.row == 0) & (grid.column == 0)).float() + 0.5 * ((grid.row == 1) & (grid.column == 1)))


Made = Callable[[Path], AskedCondition]

GIVING: dict[str, Made] = {
    "first_frame of a picture": lambda m: condition("first_frame", medium=m / "image.png"),
    "first_frame of a clip": lambda m: condition("first_frame", medium=m / "film.mp4"),
    "prefix": lambda m: condition("prefix", medium=m / "film.mp4", num_frames=9),
    "prefix of sound": lambda m: condition("prefix", "audio", medium=m / "sound.wav", duration=0.5),
    "suffix": lambda m: condition("suffix", medium=m / "film.mp4", num_frames=8),
    "suffix of sound": lambda m: condition("suffix", "audio", medium=m / "film.mp4", duration=0.5),
    "spatial_crop": lambda m: condition("spatial_crop", medium=m / "film.mp4", fields={"spatial_region": (0, 0, 64, 32)}),
    "hole": lambda m: condition("hole", medium=m / "film.mp4", fields={"height": 0.5, "length": 0.4, "count": 2}),
    "hole in sound": lambda m: condition("hole", "audio", medium=m / "sound.wav", fields={"length": 0.4, "invert": True}),
    "mask": lambda m: condition("mask", medium=m / "film.mp4", masks={"mask": m / "mask.png"}),
    "a stranger's": lambda m: condition("corners", cls=Corners, medium=m / "film.mp4"),
}


@pytest.mark.parametrize("name", GIVING)
def test_given_tokens_come_out_as_they_went_in_and_others_do_not(name: str, media: Path) -> None:
    what = encoded(GIVING[name](media))
    (one,) = what.conditions
    modality, canvas = what.canvas.modalities[one.modality], what.canvas
    found = modality.patchify(drawn(what)[one.modality][None])[0]
    grid = canvas.target(one.modality)
    known = torch.zeros_like(found)
    content = modality.patchify(one.medium.latents)[0]
    at_end = name.startswith("suffix")
    rows = slice(-len(content), None) if at_end else slice(0, len(content))
    known[rows] = content[: len(found)]
    state = one.use.condition.apply(canvas.empty(one.modality), Inputs(masks=one.masks))
    given = state.denoise_mask[0, : grid.num_tokens] == 0
    assert bool(given.any())
    assert torch.equal(found[given], known[given])
    assert not bool((found[state.denoise_mask[0] == 1] == known[state.denoise_mask[0] == 1]).any())


def test_what_is_given_is_seen_in_the_file_to_codec_error(media: Path, tmp_path: Path) -> None:
    what = encoded(condition("prefix", medium=media / "film.mp4", num_frames=9), GIVING["prefix of sound"](media))
    path = write(shown(what, drawn(what), CODECS), tmp_path / "out")
    given, frames = read_clip(media / "film.mp4"), read_clip(path).frames
    once = CODECS["video"].decode(CODECS["video"].encode(given), 16.0).frames
    assert frames.shape[0] == 17
    assert psnr(frames[:9], once[:9]) > 30  # what H.264 loses
    assert psnr(frames[9:], once[9:]) < 25
    sound = read_sound(path).samples.mean(dim=0)
    expected = CODECS["audio"].decode(what.conditions[1].medium.latents[0], 0.0).samples[0]
    near, far = sound[1600:4800], expected[1600:4800]
    loud = lambda samples: samples.unfold(0, 400, 400).square().mean(dim=1).sqrt()  # noqa: E731
    torch.testing.assert_close(loud(near), loud(far), rtol=0.5, atol=0.05)


@pytest.mark.parametrize(
    ("modality", "file"),
    [("video", "film.mp4"), ("audio", "sound.wav"), ("audio", "film.mp4")],
    ids=["video_to_audio", "audio_to_video", "sound of a clip"],
)
def test_a_frozen_modality_is_untouched(modality: str, file: str, media: Path, tmp_path: Path) -> None:
    what = encoded(frozen=[freeze(modality, media / file)])
    before = what.frozen[modality].latents.clone()
    found = drawn(what)
    assert found.keys() == {"video", "audio"} - {modality}
    assert torch.equal(what.frozen[modality].latents, before)
    played = shown(what, found, CODECS)
    if modality == "video":
        assert isinstance(played.clip, Clip)
        assert torch.equal(played.clip.frames, read_clip(media / file).frames)
    else:
        assert isinstance(played.sound, Sound)
        assert torch.equal(played.sound.samples, read_sound(media / file, max_duration=17 / 16).samples)
    path = write(played, tmp_path / "out")
    told = probe(path)
    assert (path.suffix, told.frames, told.rate, told.sound_rate is not None) == (".mp4", 17, 16, True)


def frozen_listens(media: Path, modality: str) -> tuple[Tensor, Tensor]:
    """What is drawn for a medium, and for another one."""
    other = {"video": clip_file(media / "other.mp4", 17, rate=16.0), "audio": sound_file(media / "low.wav", channels=2)}[modality]
    files = {"video": media / "film.mp4", "audio": media / "sound.wav"}
    drawn_modality = "audio" if modality == "video" else "video"
    own, another = (drawn(encoded(frozen=[freeze(modality, path)]))[drawn_modality] for path in (files[modality], other))
    return own, another


def test_what_is_drawn_for_a_frozen_sound_depends_on_it(media: Path) -> None:
    own, another = frozen_listens(media, "audio")
    assert not torch.equal(own, another)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_reference_changes_what_is_drawn_and_is_not_in_it(modality: str, media: Path) -> None:
    bare = drawn(encoded())
    file = media / ("film.mp4" if modality == "video" else "sound.wav")
    found = drawn(encoded(condition("reference", modality, media={"reference": file})))
    assert found[modality].shape == bare[modality].shape
    assert not torch.equal(found[modality], bare[modality])


def test_a_reference_may_be_added_to_a_frozen_modality(media: Path) -> None:
    frozen = [freeze("audio", media / "sound.wav")]
    bare = drawn(encoded(frozen=frozen))
    found = drawn(encoded(condition("reference", "audio", media={"reference": media / "film.mp4"}), frozen=frozen))
    assert not torch.equal(found["video"], bare["video"])


def test_conditions_go_together_and_may_not_contradict_each_other(media: Path) -> None:
    first, prefix = (
        condition(type, medium=media / "film.mp4", index=n, **rest)
        for n, (type, rest) in enumerate((("first_frame", {}), ("prefix", {"num_frames": 9})))
    )
    drawn(encoded(first, prefix))
    other = condition("first_frame", medium=image_file(media / "wide.png", 64, 128))
    with pytest.raises(DataError) as error:
        drawn(encoded(other, prefix))
    assert message(error.value, media) == (
        "validation.samples.0.conditions.1: two conditions give the same tokens different content\n    Give each part of the target only once."
    )


def test_a_reference_is_shown_to_the_left_of_what_was_drawn_from_it(media: Path) -> None:
    what = encoded(condition("reference", media={"reference": media / "film.mp4"}, include_in_output=True))
    found = drawn(what)
    clip = shown(what, found, CODECS).clip
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (17, 64, 128, 3)
    assert torch.equal(clip.frames[:, :, :64], read_clip(media / "film.mp4").frames)
    assert torch.equal(clip.frames[:, :, 64:], CODECS["video"].decode(found["video"], 16.0).frames)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("asked", "ending"),
    [
        ({}, ".mp4"),
        ({"generate_audio": False}, ".mp4"),
        ({"generate_video": False}, ".wav"),
        ({"video_dims": (64, 64, 1), "generate_audio": False}, ".png"),
    ],
)
def test_a_studio_writes_what_is_drawn_and_the_same_seed_gives_the_same_bytes(asked: dict, ending: str, tmp_path: Path) -> None:
    studio = Studio(MODEL)
    what = studio.plan([request(**asked)])
    told: list[tuple[int, int, int]] = []
    (one,) = studio.generate(what, [tmp_path / "one"], lambda *step: told.append(step))
    (other,) = studio.generate(what, [tmp_path / "other"])
    assert one == tmp_path / f"one{ending}"
    assert filecmp.cmp(one, other, shallow=False)
    assert told == [(0, 1, 2), (0, 2, 2)]


def test_a_clip_has_the_exact_frame_rate_that_was_asked_for(tmp_path: Path) -> None:
    studio = Studio(MODEL)
    (path,) = studio.generate(studio.plan([request(frame_rate=30000 / 1001, generate_audio=False)]), [tmp_path / "out"])
    assert str(probe(path).rate) == "30000/1001"


def test_only_the_streams_that_a_sample_has_are_loaded(tmp_path: Path) -> None:
    assert backbone(frozenset({"audio"})).modalities == {"audio"}
    assert drawn(encoded(generate_video=False)).keys() == {"audio"}
    assert Studio(Codecs("tiny", device="cpu")).plan([request(generate_video=False)])[0].canvas.request.modalities == {"audio"}
    assert sampler(backbone(frozenset({"audio"}))).backbone.width("audio") == 128
    assert planned(generate_video=False).conditions == ()
