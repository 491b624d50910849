"""References shown beside what was drawn from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ltxcore.protocols import Clip


def with_references(clip: Clip, references: Sequence[Clip]) -> Clip:
    """The clip with references to its left, as high as it is; later ones stand further left.

    Source: reference-behaviour D.8, "include_in_output".
    """
    frames = clip.frames
    for reference in references:
        resized = as_high(reference.frames, int(frames.shape[1]))
        frames = torch.cat([resized[shown_at(reference, clip)], frames], dim=2)
    return Clip(frames, clip.rate)


def as_high(frames: Tensor, height: int) -> Tensor:
    """Frames `[F, h, w, 3]` uint8 resized to a height; their width stays in proportion, and even."""
    own_height, own_width = int(frames.shape[1]), int(frames.shape[2])
    if own_height == height:
        return frames
    width = max(2, round(own_width * height / own_height / 2) * 2)
    return interpolate(frames.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=True).permute(0, 2, 3, 1)


def shown_at(reference: Clip, clip: Clip) -> Tensor:
    """Which frame of the reference is shown with each frame of the clip, `[F]` int64.

    A reference with fewer frames a second has its first frame shown once, and each of the others as often as the factor says; where it ends early its last
    frame stays.
    """
    factor = max(1, round(clip.rate / reference.rate))
    index = torch.arange(clip.frames.shape[0])
    return ((index + factor - 1) // factor).clamp_max(reference.frames.shape[0] - 1)
