"""The video VAE's configuration as official files state it, turned into the arguments of diffusers' class. None is left to a default.

Sources: model-facts section 5 and model-configs; reference-behaviour F.3.
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


def video_arguments(told: Section, where: str) -> dict[str, Any]:
    """Arguments of `diffusers.AutoencoderKLLTX2Video` for the section "vae".

    Raises:
        CheckpointError: a decoder by diffusion, or for all settings and blocks that are not known.
    """
    if told.get("_class_name") == _DIFFUSION_DECODER or isinstance(told.get("decoder"), Mapping):
        raise CheckpointError(
            "this video VAE decodes by diffusion, which is not supported",
            where=where,
            remedy='Use the convolutional one of the same release (its name has "video-vae-conv"); both make the same latents.',
        )
    channels = int(told.get("latent_channels", 128))
    problems = unknown("video VAE", told, {**_ONLY, "encoder_base_channels": (channels,)}, where)
    down, up = _blocks(told, "encoder_blocks", _ENCODER_STEPS, where), _blocks(told, "decoder_blocks", _DECODER_STEPS, where)
    problems += [found for found in (down, up) if isinstance(found, Problem)]
    if any(part_of(options).get("inject_noise") for _, options in told.get("decoder_blocks", ())):
        problems.append(Problem("a video VAE whose decoder adds noise is not known", where))
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
        # Of the decoder's lists this is the only one that diffusers reads from the latent's end.
        "upsample_type": [_DECODER_STEPS[name] for name, _ in reversed(blocks[1::2])],
        "upsample_residual": [bool(step.get("residual", False)) for step in steps],
        "upsample_factor": multipliers,
    }


def _widths(base: int, multipliers: list[int]) -> list[int]:
    return list(accumulate(multipliers, int.__mul__, initial=base))[1:]


def _blocks(told: Section, key: str, steps: Mapping[str, str], where: str) -> Blocks | Problem:
    """The blocks of an encoder or decoder: by turns residual blocks, and a step from one scale to the next."""
    blocks = [(str(name), part_of(options)) for name, options in told.get(key, ())]
    names = [name for name, _ in blocks]
    by_turns = len(names) % 2 == 1 and all(name in steps if at % 2 else name == _RESNETS for at, name in enumerate(names))
    if by_turns and all("num_layers" in options for _, options in blocks[::2]):
        return blocks
    return Problem(f"the {key} of the video VAE are not known: {', '.join(names) or 'there are none'}", where)
