"""Samples encoded: what latents hold of a file, masks as values, sounds of any kind, text padded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.media_made import encode as encode_file
from helpers.media_made import gradient_clip, tone
from helpers.sample_made import MODEL, clip_file, condition, encoded, film, freeze, half_mask, image_file, message, planned, sound_file
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.encoded.micro_batch import padded
from ltxcore.errors import DataError, LtxError
from ltxcore.media.probe import read_clip, write_clip, write_sound
from ltxcore.protocols import Clip, Sound
from ltxcore.sample.cuts import ClipCut
from ltxcore.sample.encode_inputs import encode


def refused(folder: Path, *conditions: object, **rest: object) -> str:
    with pytest.raises(LtxError) as error:
        encoded(*conditions, **rest)
    return message(error.value, folder)


def test_text_is_padded_on_the_left_as_stored_features_are() -> None:
    (features,) = TinyTextEncoder().encode(["a red disc"])
    text = padded(features, 5)
    assert text.mask.tolist() == [[0, 0, 1, 1, 1]]
    assert torch.equal(text.features["video"][0, 2:], features["video"])
    assert not bool(text.features["audio"][0, :2].any())


def test_a_text_without_words_is_all_padding() -> None:
    (features,) = TinyTextEncoder().encode([""])
    assert padded(features, 4).mask.tolist() == [[0, 0, 0, 0]]


def test_a_medium_is_encoded_as_its_part_of_the_file(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 33)
    frames = read_clip(path).frames
    start = encoded(condition("prefix", medium=path, num_frames=9)).conditions[0].medium
    assert torch.equal(start.latents[0], TinyVideoCodec().encode(Clip(frames[:9], 16.0)))
    end = encoded(condition("suffix", medium=path, num_frames=8)).conditions[0].medium
    assert torch.equal(end.latents[0], TinyVideoCodec().encode(Clip(frames[-17:], 16.0)))


def test_a_reference_is_encoded_with_every_second_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 33)
    frames = read_clip(path).frames
    asked = condition("reference", media={"reference": path}, temporal_scale_factor=2, include_in_output=True)
    found = encoded(asked, video_dims=(64, 64, 33))
    expected = torch.cat([frames[:1], frames[1::2]])
    assert torch.equal(found.conditions[0].media["reference"].latents[0], TinyVideoCodec().encode(Clip(expected, 8.0)))
    assert found.conditions[0].media["reference"].rate.tolist() == [8.0]
    assert torch.equal(found.beside[0].frames, expected)
    assert found.beside[0].rate == 8.0


def test_a_file_used_twice_is_encoded_once(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4")
    both = encode([planned(frozen=[freeze("video", path)]), planned(frozen=[freeze("video", path)])], MODEL)
    assert both[0].frozen["video"].latents.data_ptr() == both[1].frozen["video"].latents.data_ptr()


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_sounds_of_any_rate_and_number_of_channels_are_encoded_to_what_is_drawn(channels: int, rate: int, tmp_path: Path) -> None:
    path = encode_file(tmp_path / "sound.wav", sound=tone(1.5, rate, channels=channels), codec="pcm_s16le")
    found = encoded(frozen=[freeze("audio", path)])
    assert found.frozen["audio"].latents.shape == (1, 8, 27, 16)
    shown = found.media["audio"]
    assert isinstance(shown, Sound)
    assert (shown.rate, shown.samples.shape) == (rate, (channels, int(rate * 17 / 16)))
    near = TinyAudioCodec().encode(Sound(tone(17 / 16, rate, channels=channels).samples, rate))
    assert float((found.frozen["audio"].latents[0] - near).abs().mean()) < 0.05


def test_a_frozen_picture_is_shown_as_it_is_fitted_to_what_is_drawn(tmp_path: Path) -> None:
    path = clip_file(tmp_path / "wide.mp4", 20, 64, 128)
    found = encoded(frozen=[freeze("video", path)])
    shown = found.media["video"]
    assert isinstance(shown, Clip)
    assert torch.equal(shown.frames, read_clip(path).frames[:17, :, 32:96])
    assert shown.rate == 16.0


# ---------------------------------------------------------------- masks


def test_a_picture_is_a_mask_of_all_frames_and_greys_are_kept(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4")
    found = encoded(condition("mask", medium=path, masks={"mask": half_mask(tmp_path / "half.png")}))
    assert found.conditions[0].masks["mask"].reshape(3, 2, 2).tolist() == [[[1.0, 0.0], [1.0, 0.0]]] * 3
    write_clip(tmp_path / "grey.png", Clip(torch.full((1, 64, 64, 3), 51, dtype=torch.uint8), 1.0))
    grey = encoded(condition("mask", medium=path, masks={"mask": tmp_path / "grey.png"})).conditions[0].masks["mask"]
    torch.testing.assert_close(grey, torch.full((1, 12), 0.2))


def test_a_mask_of_a_sound_goes_by_the_time_of_each_step(tmp_path: Path) -> None:
    write_sound(tmp_path / "mask.wav", Sound((torch.arange(107) < 53).float()[None], 100))
    path = sound_file(tmp_path / "sound.wav")
    (mask,) = encoded(condition("mask", "audio", medium=path, masks={"mask": tmp_path / "mask.wav"})).conditions[0].masks["mask"]
    assert mask[:14].tolist() == [1.0] * 14  # step 13 ends at 0.53 s
    assert mask[14:].tolist() == [0.0] * 13


def test_a_stored_mask_has_one_value_a_cell(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4")
    values = torch.linspace(0, 1, 12).reshape(3, 2, 2)
    save_file({"mask": values}, tmp_path / "mask.safetensors")
    found = encoded(condition("mask", medium=path, masks={"mask": tmp_path / "mask.safetensors"}))
    assert torch.equal(found.conditions[0].masks["mask"], values.reshape(1, 12))
    save_file({"mask": torch.ones(26)}, tmp_path / "short.safetensors")
    assert refused(tmp_path, condition("mask", "audio", medium=path, masks={"mask": tmp_path / "short.safetensors"})) == (
        "validation.samples.0.conditions.0: TMP/short.safetensors: is a mask of 26 values, but the generated clip or sound has 27 latent cells\n"
        "    A mask must have one value per latent cell."
    )


def test_masks_that_are_too_short_are_refused(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4")
    clip_file(tmp_path / "short.mp4", 9)
    assert refused(tmp_path, condition("mask", medium=path, masks={"mask": tmp_path / "short.mp4"})) == (
        "validation.samples.0.conditions.0: TMP/short.mp4: has 9 frames, but 17 are generated\n"
        "    Name a longer file or a single image, or generate fewer frames with video_dims."
    )
    write_sound(tmp_path / "short.wav", Sound(torch.ones(1, 50), 100))
    assert refused(tmp_path, condition("mask", "audio", medium=path, masks={"mask": tmp_path / "short.wav"})) == (
        "validation.samples.0.conditions.0: TMP/short.wav: lasts 0.500 s, but 1.062 s are generated\n"
        "    Name a longer file, or generate fewer frames with video_dims."
    )


# ---------------------------------------------------------------- files


def test_a_clip_that_is_shorter_than_its_header_says_is_named(tmp_path: Path) -> None:
    path = clip_file(tmp_path / "clip.mp4", 9)
    with pytest.raises(DataError) as error:
        ClipCut(path, planned().canvas.request.size).read(16.0)
    assert message(error.value, tmp_path) == "TMP/clip.mp4: has 9 frames, fewer than its header says; 17 are needed\n    Encode it again."


def test_a_sound_too_short_for_the_codec_is_named(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "click.wav", 0.02)
    assert refused(tmp_path, condition("prefix", "audio", medium=path)) == (
        "validation.samples.0.conditions.0: TMP/click.wav: a sound of 0.020 seconds is too short\n    A sound must be longer than 0.032 seconds."
    )


def test_the_last_frames_of_a_clip_are_read_where_the_end_counts(tmp_path: Path) -> None:
    path = clip_file(tmp_path / "clip.mp4", 20)
    frames = read_clip(path).frames
    assert torch.equal(read_clip(path, max_frames=5, last=True).frames, frames[-5:])
    assert torch.equal(read_clip(path, max_frames=50, last=True).frames, frames)
    assert torch.equal(read_clip(image_file(tmp_path / "a.png"), max_frames=3, last=True).frames, gradient_clip(1, 64, 64).frames)
