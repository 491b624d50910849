"""The configuration of a transformer, in the form that a checkpoint stores and in the form that diffusers' constructor takes.

A checkpoint's metadata holds JSON under "config", with a section "transformer" in official names. For an absent key, the original
implementation's default applies, which differs from diffusers' default.

Source: docs/explanation/model-files.md#configuration-of-the-transformer
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any

from ltxcore.errors import CheckpointError, Problem
from ltxcore.later import uncollected
from ltxcore.model_config import building

Config = Mapping[str, Any]

_SAME_NAME: dict[str, Any] = {
    "in_channels": 128,
    "out_channels": 128,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "num_layers": 48,
    "cross_attention_dim": 4096,
    "norm_eps": 1e-6,
    "norm_elementwise_affine": False,
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "caption_channels": 3840,
    "timestep_scale_multiplier": 1000,
    "audio_in_channels": 128,
    "audio_out_channels": 128,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "rope_type": "interleaved",
    "ff_bias": True,
    "audio_ff_bias": True,
    "use_prompt_adaln_single": True,
    "use_keyframes_abs_pos_embedding": False,
}
"""The settings that have the same name in diffusers, with the original's defaults."""

_OTHER_NAME: dict[str, Any] = {
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
    "av_ca_timestep_scale_multiplier": 1,
    "frequencies_precision": "float32",
    "apply_gated_attention": False,
    "cross_attention_adaln": False,
    "caption_proj_before_connector": False,
}
"""The settings that have another name in diffusers, with the original's defaults."""

_ONLY: dict[str, Any] = {
    "standardization_norm": "rms_norm",
    "qk_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "use_middle_indices_grid": True,
    "use_audio_video_cross_attention": True,
    "av_cross_ada_norm": True,
    "share_ff": False,
    "double_self_attention": False,
    "only_cross_attention": False,
    "rope_type": ("interleaved", "split"),
    "frequencies_precision": ("float32", "float64"),
}
"""The settings that change the arithmetic, with the values that this model supports."""


_CLASS = "LTX2VideoTransformer3DModel"
_NO_MATTER = frozenset({"perturbed_attn", "vae_scale_factors"})
"""The arguments of diffusers that change nothing here: the choice of attention processor, and the scale for positions, which this model
receives as an input.
"""

_UNKNOWN = object()


def transformer_config(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the section "transformer" of a checkpoint's configuration.

    Raises:
        CheckpointError: there is no configuration, or it cannot be read.
    """
    section = checkpoint_config(metadata, where).get("transformer")
    if not isinstance(section, dict) or not section:
        raise CheckpointError(
            'the configuration in the metadata has no section "transformer"', where=where, remedy="Name the checkpoint of the transformer."
        )
    return section


def checkpoint_config(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the whole configuration in a checkpoint's metadata.

    Raises:
        CheckpointError: there is no configuration, or it is not a JSON object.
    """
    text = metadata.get("config")
    if text is None:
        raise CheckpointError(
            "the metadata lacks the configuration, which is needed to read the weights",
            where=where,
            remedy='Use a file in the official layout, whose metadata has "config".',
        )
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"the configuration in the metadata is not JSON ({error})", where=where, remedy="Download the file again."
        ) from None
    except (ValueError, RecursionError):  # numbers with thousands of digits, or brackets nested thousands deep
        config = None
    if not isinstance(config, dict):
        raise CheckpointError("the configuration in the metadata is not a JSON object", where=where, remedy="Download the file again.")
    return config


def diffusers_arguments(official: Config, where: str) -> dict[str, Any]:
    """Return all arguments of diffusers' constructor for a configuration in official names, including those with defaults.

    Raises:
        CheckpointError: settings are not supported; the error names all of them.
    """
    problems = [
        Problem(f"the transformer's setting {key} = {json.dumps(official[key])} is not known (known: {json.dumps(can)})", where)
        for key, can in _ONLY.items()
        if key in official and official[key] not in (can if isinstance(can, tuple) else (can,))
    ]
    if problems:
        raise CheckpointError.of(problems)
    given = {key: official.get(key, default) for key, default in (_SAME_NAME | _OTHER_NAME).items()}
    with building("a transformer", where, official):
        frames, height, width = given["positional_embedding_max_pos"]
        (seconds,) = given["audio_positional_embedding_max_pos"]
    return {
        **{key: given[key] for key in _SAME_NAME},
        "pos_embed_max_pos": frames,
        "base_height": height,
        "base_width": width,
        "audio_pos_embed_max_pos": seconds,
        "rope_theta": given["positional_embedding_theta"],
        "rope_double_precision": given["frequencies_precision"] == "float64",
        "cross_attn_timestep_scale_multiplier": given["av_ca_timestep_scale_multiplier"],
        "gated_attn": given["apply_gated_attention"],
        "audio_gated_attn": given["apply_gated_attention"],
        "cross_attn_mod": given["cross_attention_adaln"],
        "audio_cross_attn_mod": given["cross_attention_adaln"],
        "use_prompt_embeddings": not given["caption_proj_before_connector"],
        "attention_out_bias": True,
        "qk_norm": "rms_norm_across_heads",
        "patch_size": 1,
        "patch_size_t": 1,
        "audio_patch_size": 1,
        "audio_patch_size_t": 1,
        "vae_scale_factors": (8, 32, 32),
        "audio_scale_factor": 4,
        "audio_sampling_rate": 16000,
        "audio_hop_length": 160,
        "causal_offset": 1,
        # This selects the attention processor that can pass values through, and has no parameters.
        "perturbed_attn": True,
    }


def official_config(told: Config, where: str) -> dict[str, Any]:
    """Convert the configuration of a diffusers folder, which lists its constructor's arguments, to official names.

    For an absent key, diffusers' default applies.

    Raises:
        CheckpointError: the configuration is for another class, or has settings that are not supported.
    """
    with uncollected():
        from diffusers import LTX2VideoTransformer3DModel

    if told.get("_class_name") != _CLASS:
        raise CheckpointError(
            f"this is the configuration of {told.get('_class_name')}, not of {_CLASS}",
            where=where,
            remedy="Name the folder that holds the LTX-2 model.",
        )
    defaults = {name: p.default for name, p in inspect.signature(LTX2VideoTransformer3DModel.__init__).parameters.items() if name != "self"}
    given = {**defaults, **{key: value for key, value in told.items() if not key.startswith("_")}}
    official = {
        **{key: given[key] for key in _SAME_NAME},
        "positional_embedding_theta": given["rope_theta"],
        "positional_embedding_max_pos": [given["pos_embed_max_pos"], given["base_height"], given["base_width"]],
        "audio_positional_embedding_max_pos": [given["audio_pos_embed_max_pos"]],
        "av_ca_timestep_scale_multiplier": given["cross_attn_timestep_scale_multiplier"],
        "frequencies_precision": "float64" if given["rope_double_precision"] else "float32",
        "apply_gated_attention": given["gated_attn"],
        "cross_attention_adaln": given["cross_attn_mod"],
        "caption_proj_before_connector": not given["use_prompt_embeddings"],
    }
    can = diffusers_arguments(official, where)
    problems = [
        Problem(f"the transformer's setting {key} = {json.dumps(value)} is not known", where)
        for key, value in given.items()
        if key not in _NO_MATTER and _plain(value) != _plain(can.get(key, _UNKNOWN))
    ]
    if problems:
        raise CheckpointError.of(problems)
    return official


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def generation_of(official: Config, version: str = "") -> str:
    """Return the generation, "2.0", "2.3" or "2.5", from the version that a checkpoint gives, or else from its configuration."""
    numbers = version.split(".")
    if len(numbers) > 1 and numbers[0].isdigit() and numbers[1].isdigit():
        return f"{numbers[0]}.{numbers[1]}"
    given = {**_SAME_NAME, **_OTHER_NAME, **official}
    if given["use_keyframes_abs_pos_embedding"] or not given["ff_bias"]:
        return "2.5"
    return "2.3" if given["caption_proj_before_connector"] else "2.0"


def takes_marker(official: Config) -> bool:
    """Return whether a transformer has a learned marker for video tokens in latent frames that hold a single pixel frame."""
    return bool({**_SAME_NAME, **official}["use_keyframes_abs_pos_embedding"])


def generation_of_tensors(names: Collection[str]) -> str:
    """Return the generation, "2.0", "2.3" or "2.5", from the names of a transformer's tensors (original names, without prefix)."""
    if "keyframes_abs_pos_embedding" in names:
        return "2.5"
    return "2.0" if any(name.startswith("caption_projection.") for name in names) else "2.3"


def video_scale_of(config: Config) -> tuple[int, int, int]:
    """Return the pixel frames, rows and columns that a cell of a video latent covers, according to the VAE's section of the configuration.

    The result is (8, 32, 32) if the section has no list of blocks.

    Source: docs/explanation/model-files.md#size-of-a-latent-cell
    """
    codec = config.get("vae") or {}
    blocks = codec.get("encoder_blocks") or codec.get("decoder_blocks")
    if not blocks:
        return (8, 32, 32)
    names = [str(block[0]) for block in blocks]
    time = sum(name.startswith(("compress_time", "compress_all")) for name in names)
    space = sum(name.startswith(("compress_space", "compress_all")) for name in names)
    side = int(codec.get("patch_size", 4)) * 2**space
    return (2**time, side, side)
