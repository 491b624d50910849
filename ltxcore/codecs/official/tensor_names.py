"""Names of the codecs' tensors: those of diffusers' modules, turned into those of the official files, by path segments.

Source: model-facts section 5 and model-configs ("rename_original_to_diffusers").
"""

from __future__ import annotations

_STATISTICS = {"latents_mean": "per_channel_statistics.mean-of-means", "latents_std": "per_channel_statistics.std-of-means"}
_UNUSED_STATISTICS = ("per_channel_statistics.channel", "per_channel_statistics.mean-of-stds")
_VOCODER = {"upsamplers": "ups", "resnets": "resblocks", "conv_in": "conv_pre", "conv_out": "conv_post", "act_out": "act_post"}


def video_vae(name: str, stages: int) -> str:
    """The name, without prefix, in a file: its blocks are numbered in one row, residual blocks and steps between scales by turns.

    Args:
        name: in diffusers' module.
        stages: number of steps between scales in the encoder.
    """
    segments = name.split(".")
    if name in _STATISTICS:
        return _STATISTICS[name]
    half, *inner = segments
    row = "down_blocks" if half == "encoder" else "up_blocks"
    if inner[0] == "mid_block":
        inner[:1] = [row, str(2 * stages if half == "encoder" else 0)]
    elif inner[0] == row:
        stage = int(inner[1])
        if inner[2] in ("downsamplers", "upsamplers"):
            inner[1:4] = [str(2 * stage + 1)]
        else:
            inner[1] = str(2 * stage if half == "encoder" else 2 * stage + 2)
    return ".".join([half, *("res_blocks" if segment == "resnets" else segment for segment in inner)])


def audio_vae(name: str) -> str:
    """The name, without prefix, in a file."""
    return _STATISTICS.get(name, name)


def vocoder(name: str) -> str:
    """The name, without prefix, in a file."""
    segments = [_VOCODER.get(segment, segment) for segment in name.split(".")]
    if segments[-2:] == ["downsample", "filter"]:
        segments.insert(-1, "lowpass")
    return ".".join(segments)


def is_unused(name: str) -> bool:
    """Whether a tensor of a video VAE (name without prefix) is a statistic that encoding and decoding do not need."""
    return name.startswith(_UNUSED_STATISTICS)
