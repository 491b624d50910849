"""Functions that turn an official file's configurations of the video VAE, audio VAE and vocoder into arguments of diffusers' classes.

No argument is left to a default.

Source: https://github.com/huggingface/diffusers/blob/main/scripts/convert_ltx2_to_diffusers.py
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from ltxcore.codecs.official.metadata import Section, part_of, unknown
from ltxcore.errors import CheckpointError, Problem

Blocks = list[tuple[str, dict[str, Any]]]

_ENCODER_STEPS = {"compress_space_res": "spatial", "compress_time_res": "temporal", "compress_all_res": "spatiotemporal"}
_DECODER_STEPS = {"compress_space": "spatial", "compress_time": "temporal", "compress_all": "spatiotemporal"}
_RESNETS = "res_x"
_DIFFUSION_DECODER = "CausalDiffusionVAE"
_ONLY = {
    "dims": (3,),
    "norm_layer": ("pixel_norm",),
    "latent_log_var": ("uniform", "constant"),
    "use_quant_conv": (False,),
    "timestep_conditioning": (False,),
    "normalize_latent_channels": (False,),
    "scaling_factor": (1, 1.0),
}

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
"""The activation of each kind of residual block in a vocoder, and whether the block is antialiased."""


def video_arguments(told: Section, where: str) -> dict[str, Any]:
    """Return the arguments of `diffusers.AutoencoderKLLTX2Video` for the section "vae".

    Raises:
        CheckpointError: the decoder works by diffusion, or settings or blocks are unknown; the message names all of these.
    """
    if told.get("_class_name") == _DIFFUSION_DECODER or isinstance(told.get("decoder"), Mapping):
        raise CheckpointError(
            "this video VAE decodes by diffusion, which is not supported",
            where=where,
            remedy='Use the convolutional video VAE of the same release, whose file name contains "video-vae-conv"; both make the same latents.',
        )
    channels = int(told.get("latent_channels", 128))
    problems = unknown("video VAE", told, {**_ONLY, "encoder_base_channels": (channels,)}, where)
    down, up = _blocks(told, "encoder_blocks", _ENCODER_STEPS, where), _blocks(told, "decoder_blocks", _DECODER_STEPS, where)
    problems += [found for found in (down, up) if isinstance(found, Problem)]
    if any(part_of(options).get("inject_noise") for _, options in told.get("decoder_blocks", ())):
        problems.append(Problem("a video VAE whose decoder adds noise is not supported", where))
    if problems or isinstance(down, Problem) or isinstance(up, Problem):
        raise CheckpointError.of(problems)
    patch = int(told.get("patch_size", 4))
    padding = told.get("spatial_padding_mode")
    return {
        "in_channels": int(told.get("in_channels", 3)),
        "out_channels": int(told.get("out_channels", 3)),
        "latent_channels": channels,
        "timestep_conditioning": False,
        "patch_size": patch,
        "patch_size_t": 1,
        "resnet_norm_eps": 1e-6,
        "encoder_causal": True,
        "decoder_causal": bool(told.get("causal_decoder", False)),
        "encoder_spatial_padding_mode": told.get("encoder_spatial_padding_mode", padding or "zeros"),
        "decoder_spatial_padding_mode": told.get("decoder_spatial_padding_mode", padding or "reflect"),
        **_encoder(down, channels, patch),
        **_decoder(up, int(told.get("decoder_base_channels", channels))),
    }


def _encoder(blocks: Blocks, base: int, patch: int) -> dict[str, Any]:
    kinds = [_ENCODER_STEPS[name] for name, _ in blocks[1::2]]
    return {
        "block_out_channels": _widths(base, [int(step.get("multiplier", 2)) for _, step in blocks[1::2]]),
        "down_block_types": ["LTX2VideoDownBlock3D"] * len(kinds),
        "layers_per_block": [int(block["num_layers"]) for _, block in blocks[::2]],
        "spatio_temporal_scaling": [True] * len(kinds),
        "downsample_type": kinds,
        "spatial_compression_ratio": patch * 2 ** sum(kind != "temporal" for kind in kinds),
        "temporal_compression_ratio": 2 ** sum(kind != "spatial" for kind in kinds),
    }


def _decoder(blocks: Blocks, base: int) -> dict[str, Any]:
    steps = [step for _, step in blocks[1::2]]
    multipliers = [int(step.get("multiplier", 1)) for step in steps]
    return {
        "decoder_block_out_channels": _widths(base, multipliers),
        "decoder_layers_per_block": [int(block["num_layers"]) for _, block in blocks[::2]],
        "decoder_spatio_temporal_scaling": [True] * len(steps),
        "decoder_inject_noise": [False] * (len(steps) + 1),
        # Of the decoder's lists, diffusers reads only this one in the order from the latents to the pixels.
        "upsample_type": [_DECODER_STEPS[name] for name, _ in reversed(blocks[1::2])],
        "upsample_residual": [bool(step.get("residual", False)) for step in steps],
        "upsample_factor": multipliers,
    }


def _widths(base: int, multipliers: list[int]) -> list[int]:
    return list(accumulate(multipliers, int.__mul__, initial=base))[1:]


def _blocks(told: Section, key: str, steps: Mapping[str, str], where: str) -> Blocks | Problem:
    """Return the blocks of an encoder or decoder, in which residual blocks alternate with steps from one scale to the next."""
    blocks = [(str(name), part_of(options)) for name, options in told.get(key, ())]
    names = [name for name, _ in blocks]
    by_turns = len(names) % 2 == 1 and all(name in steps if at % 2 else name == _RESNETS for at, name in enumerate(names))
    if by_turns and all("num_layers" in options for _, options in blocks[::2]):
        return blocks
    return Problem(f"the {key} of the video VAE are not supported: {', '.join(names) or 'the list is empty'}", where)


def audio_arguments(told: Section, where: str) -> dict[str, Any]:
    """Return the arguments of `diffusers.AutoencoderKLLTX2Audio` for the section "audio_vae".

    Raises:
        CheckpointError: settings are unknown; the message names all of them.
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
    """Return the arguments of `diffusers.pipelines.ltx2.vocoder.LTX2Vocoder` for the section "vocoder", or of
    `LTX2VocoderWithBWE` if it has a part "bwe".

    Raises:
        CheckpointError: settings are unknown; the message names all of them.
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
