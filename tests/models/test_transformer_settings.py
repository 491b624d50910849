import json
from pathlib import Path

import pytest

from ltxcore.errors import CheckpointError
from ltxcore.models.transformer_settings import diffusers_arguments, generation_of, transformer_config, video_scale_of

REAL = json.loads((Path(__file__).parent / "real_configs.json").read_text())

OFFICIAL = {
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "num_layers": 48,
    "cross_attention_dim": 4096,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "positional_embedding_theta": 10000.0,
    "audio_positional_embedding_max_pos": [20],
    "rope_type": "split",
    "frequencies_precision": "float64",
    "av_ca_timestep_scale_multiplier": 1000,
    "qk_norm": "rms_norm",
    "connector_num_layers": 2,
}
NEWER = {"apply_gated_attention": True, "cross_attention_adaln": True, "caption_proj_before_connector": True}
GENERATIONS = {
    "2.0": OFFICIAL,
    "2.3": OFFICIAL | NEWER,
    "2.5": OFFICIAL | NEWER | {"ff_bias": False, "use_keyframes_abs_pos_embedding": True},
}
DEFAULT_IN_DIFFUSERS = {"ff_bias": True, "audio_ff_bias": True, "use_prompt_adaln_single": True, "use_keyframes_abs_pos_embedding": False}


@pytest.mark.parametrize("generation", ["2.0", "2.3", "2.5"])
def test_an_official_configuration_becomes_the_arguments_of_diffusers_and_leaves_none_to_its_defaults(generation):
    from inspect import signature

    from diffusers import LTX2VideoTransformer3DModel

    found = diffusers_arguments(GENERATIONS[generation], "a.safetensors")
    expected = DEFAULT_IN_DIFFUSERS | REAL[generation] | {"perturbed_attn": True, "vae_scale_factors": (8, 32, 32)}
    assert found == expected
    assert set(found) == set(signature(LTX2VideoTransformer3DModel.__init__).parameters) - {"self"}


def test_a_key_that_is_absent_means_the_originals_default_and_not_that_of_diffusers():
    found = diffusers_arguments({}, "a.safetensors")
    assert found["cross_attn_timestep_scale_multiplier"] == 1
    assert found["rope_type"] == "interleaved"
    assert found["rope_double_precision"] is False
    assert found["use_prompt_embeddings"] is True


@pytest.mark.parametrize("generation", ["2.0", "2.3", "2.5"])
def test_the_generation_is_read_from_the_configuration_and_a_version_goes_first(generation):
    assert generation_of(GENERATIONS[generation]) == generation
    assert generation_of(GENERATIONS[generation], "2.4.1") == "2.4"
    assert generation_of(GENERATIONS[generation], "dev") == generation


def test_settings_that_the_model_cannot_do_are_all_named():
    with pytest.raises(CheckpointError) as error:
        diffusers_arguments({"qk_norm": "layer_norm", "rope_type": "spiral", "share_ff": False}, "a.safetensors")
    assert str(error.value) == (
        'a.safetensors: the transformer\'s setting qk_norm = "layer_norm" is not known (known: "rms_norm")\n'
        'a.safetensors: the transformer\'s setting rope_type = "spiral" is not known (known: ["interleaved", "split"])'
    )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {},
            "a.safetensors: the metadata lacks the configuration, which is needed to read the weights\n"
            '    Use a file in the official layout, whose metadata has "config".',
        ),
        (
            {"config": "{"},
            "a.safetensors: the configuration in the metadata is not JSON (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1))\n    Download the file again.",
        ),
        ({"config": "[" * 100_000}, "a.safetensors: the configuration in the metadata is not a JSON object\n    Download the file again."),
        ({"config": "[]"}, "a.safetensors: the configuration in the metadata is not a JSON object\n    Download the file again."),
        (
            {"config": '{"vae": {}}'},
            'a.safetensors: the configuration in the metadata has no section "transformer"\n    Name the checkpoint of the transformer.',
        ),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(metadata, message):
    with pytest.raises(CheckpointError) as error:
        transformer_config(metadata, "a.safetensors")
    assert str(error.value) == message


def test_the_codecs_factors_are_read_from_its_blocks():
    blocks = [["res_x", {}], ["compress_space_res", {}], ["compress_time_res", {}], ["compress_all_res", {}], ["compress_all_res", {}]]
    assert video_scale_of({"vae": {"encoder_blocks": blocks, "patch_size": 4}}) == (8, 32, 32)
    assert video_scale_of({"vae": {"encoder_blocks": blocks[:2], "patch_size": 2}}) == (1, 4, 4)
    assert video_scale_of({"vae": {"decoder_blocks": blocks[:3]}}) == (2, 8, 8)
    assert video_scale_of({}) == (8, 32, 32)
