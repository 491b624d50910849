"""The configurations of the audio VAE and the vocoder as official files state them, turned into the arguments of diffusers' classes.

None is left to a default. Sources: model-facts section 5 and model-configs.
"""

from __future__ import annotations

from typing import Any

from ltxcore.codecs.official.metadata import Section, part_of, unknown
from ltxcore.errors import CheckpointError

_AUDIO_ONLY = {
    "mel_bins": (64,),
    "in_channels": (2,),
    "out_ch": (2,),
    "causality_axis": ("height",),
    "double_z": (True,),
    "attn_resolutions": ([], None),
    "mid_block_add_attention": (False,),
}
_RESBLOCKS = {"1": ("leaky_relu", False), "AMP1": ("snakebeta", True)}
"""Activation and antialiasing of a vocoder's residual blocks, by their name."""


def audio_arguments(told: Section, where: str) -> dict[str, Any]:
    """Arguments of `diffusers.AutoencoderKLLTX2Audio` for the section "audio_vae".

    Raises:
        CheckpointError: for all settings that are not known.
    """
    params = part_of(part_of(told.get("model")).get("params"))
    net, stft = part_of(params.get("ddconfig")), part_of(part_of(told.get("preprocessing")).get("stft"))
    fixed = {"sampling_rate": (16000,), "hop_length": (160,), "filter_length": (1024,), "win_length": (1024,)}
    problems = unknown("audio VAE", net, _AUDIO_ONLY, where) + unknown("audio VAE", {**params, **stft}, fixed, where)
    if problems:
        raise CheckpointError.of(problems)
    return {
        "base_channels": int(net.get("ch", 128)),
        "output_channels": 2,
        "ch_mult": [int(factor) for factor in net.get("ch_mult", (1, 2, 4))],
        "num_res_blocks": int(net.get("num_res_blocks", 2)),
        "attn_resolutions": None,
        "in_channels": 2,
        "resolution": int(net.get("resolution", 256)),
        "latent_channels": int(net.get("z_channels", 8)),
        "norm_type": net.get("norm_type", "pixel"),
        "causality_axis": "height",
        "dropout": float(net.get("dropout", 0.0)),
        "mid_block_add_attention": False,
        "sample_rate": 16000,
        "mel_hop_length": 160,
        "is_causal": True,
        "mel_bins": 64,
        "double_z": True,
    }


def vocoder_arguments(told: Section, where: str) -> dict[str, Any]:
    """Arguments of `diffusers.pipelines.ltx2.vocoder.LTX2Vocoder` for the section "vocoder", or of `LTX2VocoderWithBWE` where it has a part "bwe".

    Raises:
        CheckpointError: for all settings that are not known.
    """
    if "bwe" not in told:
        plain = part_of(told.get("vocoder")) or told
        rate = {"output_sampling_rate": plain.get("output_sampling_rate", plain.get("output_sample_rate", 24000))}
        return {**_generator(plain, where), **rate}
    bwe = part_of(told["bwe"])
    return {
        **_generator(part_of(told.get("vocoder")), where),
        **{f"bwe_{key}": value for key, value in _generator(bwe, where).items()},
        "filter_length": int(bwe.get("n_fft", 512)),
        "hop_length": int(bwe.get("hop_length", 80)),
        "window_length": int(bwe.get("win_size", 512)),
        "num_mel_channels": int(bwe.get("num_mels", 64)),
        "input_sampling_rate": int(bwe.get("input_sampling_rate", 16000)),
        "output_sampling_rate": int(bwe.get("output_sampling_rate", 48000)),
    }


def _generator(told: Section, where: str) -> dict[str, Any]:
    kind = str(told.get("resblock", "1"))
    problems = unknown("vocoder", {"resblock": kind, **told}, {"resblock": tuple(_RESBLOCKS)}, where)
    if kind in _RESBLOCKS:
        problems += unknown("vocoder", told, {"activation": (_RESBLOCKS[kind][0],)} if kind == "AMP1" else {}, where)
    if problems:
        raise CheckpointError.of(problems)
    activation, antialias = _RESBLOCKS[kind]
    channels = 2 if told.get("stereo", True) else 1
    ends_in_tanh = told.get("apply_final_activation", True) and told.get("use_tanh_at_final", True)
    arguments = {
        "in_channels": channels * int(told.get("num_mels", 64)),
        "hidden_channels": int(told.get("upsample_initial_channel", 1024)),
        "out_channels": channels,
        "upsample_kernel_sizes": list(told.get("upsample_kernel_sizes", (16, 15, 8, 4, 4))),
        "upsample_factors": list(told.get("upsample_rates", (6, 5, 2, 2, 2))),
        "resnet_kernel_sizes": list(told.get("resblock_kernel_sizes", (3, 7, 11))),
        "resnet_dilations": [list(steps) for steps in told.get("resblock_dilation_sizes", ((1, 3, 5),) * 3)],
        "act_fn": activation,
        "leaky_relu_negative_slope": 0.1,
        "antialias": antialias,
        "final_act_fn": "tanh" if ends_in_tanh else None,
        "final_bias": bool(told.get("use_bias_at_final", True)),
    }
    return {**arguments, "antialias_ratio": 2, "antialias_kernel_size": 12} if antialias else arguments
