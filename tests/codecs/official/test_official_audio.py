"""The audio VAE and the vocoder as a codec, against diffusers' classes used directly."""

import json

import pytest
import torch
from safetensors import safe_open

from helpers.official_models import TABLES, audio_module, vocoder_module, write
from ltxcore.codecs.mel import log_mel, resample
from ltxcore.codecs.official import audio_vae
from ltxcore.errors import CheckpointError, DataError
from ltxcore.protocols import Sound

LAYOUTS = ("2.0", "2.3", "2.5", "folder 2.0", "folder 2.3")


def sound(channels=2, rate=16000, seconds=1.0):
    time = torch.arange(int(rate * seconds)) / rate
    return Sound(torch.stack([torch.sin(2 * torch.pi * 220 * (n + 1) * time) * 0.5 for n in range(channels)]), rate)


def loaded(models, layout):
    model, _, own = models[layout]
    return audio_vae.load(model, own)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_latents_are_the_normalised_mode_of_the_log_mel_and_decode_through_the_vocoder(models, layout):
    codec, generation = loaded(models, layout), layout.split()[-1]
    module, vocoder = audio_module(generation), vocoder_module(generation)
    mode = module.encode(log_mel(sound().samples)[None]).latent_dist.mode()
    # The statistics are those of tokens: [B, T, C * M], channel-major.
    tokens = (mode.transpose(1, 2).flatten(2) - module.latents_mean) / module.latents_std
    latents = codec.encode(sound())
    assert (latents.shape, latents.dtype) == ((2, 26, 16), torch.float32)
    assert torch.equal(latents.transpose(0, 1).flatten(1), tokens[0])

    heard = codec.decode(latents, 0.0)
    restored = (tokens * module.latents_std + module.latents_mean).unflatten(2, (2, 16)).transpose(1, 2)
    expected = vocoder(module.decode(restored).sample)[0].clamp(-1, 1)
    assert torch.equal(heard.samples, expected)
    assert (heard.rate, heard.samples.shape) == ((24000, (2, 101 * 240)) if generation == "2.0" else (48000, (2, 101 * 480)))
    assert (codec.modality, codec.scale) == ("audio", (4, 1, 1))


@pytest.mark.parametrize(("channels", "weights"), [(1, [[1.0], [1.0]]), (6, [[1, 0, 0.707, 0, 0.707, 0], [0, 1, 0.707, 0, 0, 0.707]])])
def test_any_number_of_channels_is_heard_as_stereo(models, channels, weights):
    codec, given = loaded(models, "2.0"), sound(channels)
    mixed = torch.tensor(weights) @ given.samples / (1 if channels == 1 else 2.414)
    assert torch.allclose(codec.encode(given), codec.encode(Sound(mixed, 16000)), atol=1e-2)


def test_eight_channels_are_heard_as_stereo_without_the_low_frequency_one(models):
    codec, given = loaded(models, "2.0"), sound(8)
    quiet = Sound(given.samples.clone(), given.rate)
    quiet.samples[3] = 0
    assert torch.equal(codec.encode(given), codec.encode(quiet))
    assert codec.encode(given).shape == (2, 26, 16)


def test_a_sound_of_another_rate_is_resampled(models):
    codec, given = loaded(models, "2.3"), sound(rate=44100)
    assert torch.equal(codec.encode(given), codec.encode(Sound(resample(given.samples, 44100, 16000), 16000)))


def test_whole_seconds_give_25_steps_each_and_one_more(models):
    codec = loaded(models, "2.0")
    assert [codec.encode(sound(seconds=n)).shape[1] for n in (0.5, 1, 2)] == [13, 26, 51]


def test_a_sound_shorter_than_a_window_is_refused(models):
    with pytest.raises(DataError) as caught:
        loaded(models, "2.0").encode(Sound(torch.zeros(1, 500), 16000))
    assert str(caught.value) == "a sound of 0.031 seconds is too short\n    A sound must be longer than 0.032 seconds."


@pytest.mark.parametrize("before", [True, False])
def test_no_convolution_is_rounded_to_tf32_and_the_setting_is_put_back(models, before, monkeypatch):
    codec, seen = loaded(models, "2.3"), []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    for module in (codec._part.module.encoder, codec._part.module.decoder, codec._vocoder.module):
        module.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    enabled = torch.backends.cudnn.enabled
    codec.decode(codec.encode(sound()))
    assert seen == [False] * 3
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled) == (before, enabled)


def test_the_vocoder_is_not_read_to_encode(models):
    codec = loaded(models, "2.3")
    codec.encode(sound())
    assert all(tensor.is_meta for tensor in codec._vocoder.module.parameters())
    assert all(tensor.is_meta for tensor in codec._part.module.decoder.parameters())


def test_the_fingerprint_is_that_of_the_latents_not_of_the_vocoder(models):
    assert loaded(models, "2.3").fingerprint == loaded(models, "2.0").fingerprint == loaded(models, "2.5").fingerprint


def rewritten(models, tmp_path, change):
    """The audio file of 2.5 with another configuration."""
    with safe_open(models["2.5"][2], framework="pt") as file:
        tensors, config = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118
    change(config)
    return write(tmp_path / "audio.safetensors", tensors, config)


def test_a_vocoder_whose_rate_is_not_that_of_its_steps_is_refused(models, tmp_path):
    path = rewritten(models, tmp_path, lambda config: config["vocoder"]["bwe"].update(input_sampling_rate=24000))
    with pytest.raises(CheckpointError) as caught:
        audio_vae.load(models["2.5"][0], path)
    assert str(caught.value) == f"{path}: the configuration of the vocoder specifies 24000 samples per second, but the layers produce 16000"


def test_statistics_that_are_not_one_number_for_each_channel_and_bin_are_refused(tmp_path):
    from diffusers import AutoencoderKLLTX2Audio

    told = TABLES["audio_vae"]["2.0"]["diffusers_config"] | {"base_channels": 32, "latent_channels": 4}
    AutoencoderKLLTX2Audio(**told).save_pretrained(tmp_path / "audio_vae")
    vocoder_module("2.0").save_pretrained(tmp_path / "vocoder")
    with pytest.raises(CheckpointError) as caught:
        audio_vae.load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'audio_vae'}: the statistics of the audio VAE have 32 numbers per step, but the latents have 4 channels of 16 bins"
    )
