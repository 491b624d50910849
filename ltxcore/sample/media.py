"""Latents to files that play."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ltxcore.codecs.media import write_clip, write_sound
from ltxcore.protocols import Clip, Codec, Sound


def write_media(latents: Mapping[str, Tensor], rates: Mapping[str, float], codecs: Mapping[str, Codec], path: Path) -> Path:
    """Decode and write one sample: a picture with its sound as MP4 (PNG for a single frame, which has no sound), sound alone as WAV.

    Args:
        latents: of each modality that the sample has, `[C, F, H, W]` and `[C, T, M]`.
        rates: frames per second of each.
        codecs: by modality.
        path: without ending.

    Returns:
        The file, with its ending.
    """
    decoded = {name: codecs[name].decode(tensor, rates[name]) for name, tensor in latents.items()}
    sound: Sound | None = decoded.get("audio")
    clip: Clip | None = decoded.get("video")
    if clip is None:
        if sound is None:
            raise ValueError("there is neither picture nor sound to write")
        path = path.with_name(f"{path.name}.wav")
        write_sound(path, sound)
        return path
    single = clip.frames.shape[0] == 1
    path = path.with_name(f"{path.name}{'.png' if single else '.mp4'}")
    write_clip(path, clip, None if single else sound)
    return path
