"""The configurations of VAEs and vocoders, in official names, for files that state none, as repackagers publish them.

The released families are told apart by the numbers of their layers. Widths and numbers of blocks follow from the shapes of tensors;
everything else is as in the released model of the same family. If tensors and configuration do not agree, the file is refused when
their names and shapes are compared.

Source: docs/explanation/model-files.md#files-without-a-configuration
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

_STATISTICS = "per_channel_statistics.mean-of-means"
_DOWN = ("compress_space_res", "compress_time_res", "compress_all_res", "compress_all_res")
_FAMILIES: Mapping[int, Mapping[str, Any]] = {
    4: {
        "down": (2, 2, 2, 2),
        "up": (("compress_all", 2),) * 3,
        "residual": True,
        "padding": {"encoder_spatial_padding_mode": "zeros", "decoder_spatial_padding_mode": "reflect"},
    },
    5: {
        "down": (2, 2, 2, 1),
        "up": (("compress_space", 2), ("compress_time", 2), ("compress_all", 1), ("compress_all", 2)),
        "residual": False,
        "padding": {"spatial_padding_mode": "zeros"},
    },
}
"""The settings of the video VAEs of LTX-2 and of later releases that do not follow from shapes, by the number of groups of residual blocks
in the decoder."""

_BINS, _MELS = 16, 64
_DILATIONS = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "stereo": True}
_RATES = {(16, 15, 8, 4, 4): [6, 5, 2, 2, 2], (11, 4, 4, 4, 4, 4): [5, 2, 2, 2, 2, 2], (12, 11, 4, 4, 4): [6, 5, 2, 2, 2]}
"""The factors by which a vocoder's layers upsample, by the sizes of their kernels."""

_ANTIALIASED = {"resblock": "AMP1", "use_tanh_at_final": False, "activation": "snakebeta", "use_bias_at_final": False}
_EXTENSION = {
    "apply_final_activation": False,
    "input_sampling_rate": 16000,
    "output_sampling_rate": 48000,
    "hop_length": 80,
    "n_fft": 512,
    "win_size": 512,
    "num_mels": _MELS,
}


def section_of_shapes(section: str, shapes: Shapes) -> dict[str, Any] | None:
    """Return a section of the configuration; None if the tensors are not those of a known part.

    Args:
        section: "vae", "audio_vae" or "vocoder".
        shapes: the shapes of the part's tensors, by their names without prefix.
    """
    try:
        return {"vae": _video, "audio_vae": _audio, "vocoder": _vocoder}[section](shapes)
    except (KeyError, IndexError, ZeroDivisionError, ValueError):
        return None


def _video(shapes: Shapes) -> dict[str, Any]:
    (channels,) = shapes[_STATISTICS]
    layers = {
        half: _blocks(shapes, rf"{half}\.{row}_blocks\.(\d+)\.res_blocks\.(\d+)\.")
        for half, row in (("encoder", "down"), ("decoder", "up"))
    }
    family = _FAMILIES[len(layers["decoder"])]
    down = [(name, {"multiplier": factor}) for name, factor in zip(_DOWN, family["down"], strict=True)]
    up = [(name, {"multiplier": factor, **({"residual": True} if family["residual"] else {})}) for name, factor in family["up"]]
    return {
        "latent_channels": channels,
        "encoder_blocks": _by_turns(layers["encoder"], down),
        "decoder_blocks": _by_turns(layers["decoder"][::-1], up),  # listed from the pixels to the latents
        "patch_size": 4,
        "causal_decoder": False,
        **family["padding"],
    }


def _blocks(shapes: Shapes, pattern: str) -> list[int]:
    """Return the number of residual blocks in each group, in the order of the groups; `pattern` has the numbers of both."""
    found = {tuple(map(int, match.groups())) for match in (re.match(pattern, name) for name in shapes) if match}
    groups = sorted({group for group, _ in found})
    return [1 + max(block for own, block in found if own == group) for group in groups]


def _by_turns(layers: list[int], steps: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    if len(layers) != len(steps) + 1:
        raise ValueError("groups of blocks and steps do not alternate")
    residual = [("res_x", {"num_layers": count}) for count in layers]
    return [each for pair in zip(residual, steps, strict=False) for each in pair] + residual[-1:]


def _audio(shapes: Shapes) -> dict[str, Any]:
    (width,) = shapes[_STATISTICS]
    blocks = _blocks(shapes, r"encoder\.down\.(\d+)\.block\.(\d+)\.")
    net = {
        "ch": width,
        "z_channels": width // _BINS,
        "ch_mult": [shapes[f"encoder.down.{stage}.block.0.conv1.conv.weight"][0] // width for stage in range(len(blocks))],
        "num_res_blocks": blocks[0],
        "mel_bins": _MELS,
    }
    return {"model": {"params": {"ddconfig": net}}}


def _vocoder(shapes: Shapes) -> dict[str, Any]:
    if any(name.startswith("bwe_generator.") for name in shapes):
        both = {"vocoder": _generator(shapes, "vocoder."), "bwe": {**_generator(shapes, "bwe_generator."), **_EXTENSION}}
        return {name: {**told, **_ANTIALIASED} for name, told in both.items()}
    return {"vocoder": {**_generator(shapes, ""), "resblock": "1"}}


def _generator(shapes: Shapes, prefix: str) -> dict[str, Any]:
    layers = sorted(int(match[1]) for match in (re.fullmatch(rf"{re.escape(prefix)}ups\.(\d+)\.weight", name) for name in shapes) if match)
    kernels = tuple(shapes[f"{prefix}ups.{layer}.weight"][2] for layer in layers)
    sizes = {"upsample_kernel_sizes": list(kernels), "upsample_rates": _RATES[kernels]}
    return {"upsample_initial_channel": shapes[f"{prefix}conv_pre.weight"][0], **sizes, **_DILATIONS}
