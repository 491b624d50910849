"""Configurations of official files against the table of constructor arguments."""

import pytest

from helpers.official_models import TABLES, audio_section, video_section, vocoder_section
from ltxcore.codecs.official.codec_settings import audio_arguments, video_arguments, vocoder_arguments
from ltxcore.errors import CheckpointError

REAL_BLOCKS = {
    "2.0": {
        "encoder": ["res_x 4", "compress_space_res 2", "res_x 6", "compress_time_res 2", "res_x 6", "compress_all_res 2", "res_x 2", "compress_all_res 2", "res_x 2"],
        "decoder": ["res_x 5", "compress_all 2 residual", "res_x 5", "compress_all 2 residual", "res_x 5", "compress_all 2 residual", "res_x 5"],
    },
    "2.3": {
        "encoder": ["res_x 4", "compress_space_res 2", "res_x 6", "compress_time_res 2", "res_x 4", "compress_all_res 2", "res_x 2", "compress_all_res 1", "res_x 2"],
        "decoder": ["res_x 4", "compress_space 2", "res_x 6", "compress_time 2", "res_x 4", "compress_all 1", "res_x 2", "compress_all 2", "res_x 2"],
    },
}  # fmt: skip
GENERATIONS = ("2.0", "2.3", "2.5")


def table(part, generation):
    return TABLES[part][generation]["diffusers_config"]


def real_video(generation):
    return video_section(generation, 128, REAL_BLOCKS["2.0" if generation == "2.0" else "2.3"])


def real_vocoder(generation):
    return vocoder_section(generation, (1024, 0) if generation == "2.0" else (1536, 512))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_real_configurations_give_the_arguments_of_the_table(generation):
    assert video_arguments(real_video(generation), "f") == table("video_vae", generation)
    assert audio_arguments(audio_section(), "f") == table("audio_vae", generation)
    assert vocoder_arguments(real_vocoder(generation), "f") == table("vocoder", generation)


@pytest.mark.parametrize(
    ("part", "generation", "million"),
    [
        ("video_vae", "2.0", 1222.5),
        ("video_vae", "2.3", 726.1),
        ("audio_vae", "2.3", 53.2),
        ("vocoder", "2.0", 55.6),
        ("vocoder", "2.3", 128.5),
    ],
)
def test_the_real_codecs_build_without_memory(part, generation, million):
    from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    from ltxcore.codecs.official.modules import empty

    classes = {
        "video_vae": AutoencoderKLLTX2Video,
        "audio_vae": AutoencoderKLLTX2Audio,
        "vocoder": LTX2Vocoder if generation == "2.0" else LTX2VocoderWithBWE,
    }
    arguments = {
        "video_vae": lambda: video_arguments(real_video(generation), "f"),
        "audio_vae": lambda: audio_arguments(audio_section(), "f"),
        "vocoder": lambda: vocoder_arguments(real_vocoder(generation), "f"),
    }[part]()
    module = empty(lambda: classes[part](**arguments))
    assert all(parameter.is_meta and not parameter.requires_grad for parameter in module.parameters())
    assert round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1) == million


def test_a_decoder_by_diffusion_is_refused_by_name():
    with pytest.raises(CheckpointError) as caught:
        video_arguments({"_class_name": "CausalDiffusionVAE", "encoder": {}, "decoder": {}}, "video-vae.safetensors")
    assert str(caught.value) == (
        "video-vae.safetensors: this video VAE decodes by diffusion, which is not supported\n"
        '    Use the convolutional video VAE of the same release, whose file name contains "video-vae-conv"; both make the same latents.'
    )


def test_every_unknown_setting_of_a_video_vae_is_named():
    told = real_video("2.3") | {"norm_layer": "group_norm", "timestep_conditioning": True, "encoder_blocks": [["res_x_y", 1]]}
    told["decoder_blocks"][0][1]["inject_noise"] = True
    with pytest.raises(CheckpointError) as caught:
        video_arguments(told, "f")
    assert str(caught.value) == (
        'f: the setting norm_layer = "group_norm" of the video VAE is not known (known: "pixel_norm")\n'
        "f: the setting timestep_conditioning = true of the video VAE is not known (known: false)\n"
        "f: the encoder_blocks of the video VAE are not supported: res_x_y\n"
        "f: a video VAE whose decoder adds noise is not supported"
    )


def test_a_video_vae_without_blocks_is_refused():
    with pytest.raises(CheckpointError) as caught:
        video_arguments({"_class_name": "CausalVideoAutoencoder"}, "f")
    assert str(caught.value) == (
        "f: the encoder_blocks of the video VAE are not supported: the list is empty\nf: the decoder_blocks of the video VAE are not supported: the list is empty"
    )


def test_unknown_settings_of_the_audio_codecs_are_named():
    told = audio_section()
    told["model"]["params"]["sampling_rate"] = 44100
    told["model"]["params"]["ddconfig"]["mel_bins"] = 80
    with pytest.raises(CheckpointError) as caught:
        audio_arguments(told, "f")
    assert str(caught.value) == (
        "f: the setting mel_bins = 80 of the audio VAE is not known (known: 64)\n"
        "f: the setting sampling_rate = 44100 of the audio VAE is not known (known: 16000)"
    )
    with pytest.raises(CheckpointError) as caught:
        vocoder_arguments({"vocoder": {"resblock": "2"}}, "f")
    assert str(caught.value) == 'f: the setting resblock = "2" of the vocoder is not known (known: "1", "AMP1")'
    with pytest.raises(CheckpointError) as caught:
        vocoder_arguments({"vocoder": {"resblock": "AMP1", "activation": "snake"}}, "f")
    assert str(caught.value) == 'f: the setting activation = "snake" of the vocoder is not known (known: "snakebeta")'
