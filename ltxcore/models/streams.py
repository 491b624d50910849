"""Which stream of the transformer a parameter or module belongs to: pictures, sound, or the attention between them.

A run that has one modality holds the weights of that stream alone; this module is where that is decided, by name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Stream = Literal["video", "audio", "cross"]

PREFIX: dict[str, str] = {"video": "", "audio": "audio_"}
"""What the names of a modality's own modules begin with, in the model and in each block."""

_CROSS_MODULES = frozenset({"audio_to_video_norm", "audio_to_video_attn", "video_to_audio_norm", "video_to_audio_attn"})
_CROSS_BEGINNINGS = ("av_cross_attn_", "cross_attn_", "video_a2v_cross_attn_", "audio_a2v_cross_attn_")


def stream_of(name: str) -> Stream:
    """The stream of a parameter or module, by its path in the model (names of diffusers).

    A path is decided by its first segment, or, inside `transformer_blocks.N`, by the segment after that.
    """
    segments = name.split(".")
    part = segments[2] if segments[0] == "transformer_blocks" and len(segments) > 2 else segments[0]
    if part in _CROSS_MODULES or part.startswith(_CROSS_BEGINNINGS):
        return "cross"
    return "audio" if part.startswith(PREFIX["audio"]) else "video"


def is_needed(name: str, modalities: Collection[str]) -> bool:
    """Whether a run of these modalities reads the parameter or module: its stream, and the attention between two."""
    stream = stream_of(name)
    return len(modalities) > 1 if stream == "cross" else stream in modalities


def block_of(name: str) -> int | None:
    """The number of the block that a parameter or module is in; none: it is in no block."""
    segments = name.split(".")
    return int(segments[1]) if segments[0] == "transformer_blocks" and len(segments) > 1 else None
