"""The candidates for keyframes: the frames of a clip that are also encoded as pictures, each by itself."""

from __future__ import annotations

import torch

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.flow.draws import generator

CANDIDATES = 4
"""The number of candidates if the options do not set it."""


def candidate_count(options: PreprocessingTable, frames: int) -> int:
    """Return the number of candidates of a clip with this number of frames."""
    return min(options.keyframe_candidates or CANDIDATES, frames)


def candidate_frames(count: int, frames: int, content: str) -> list[int]:
    """Return the candidates of a clip as frame numbers, in order: the first frame, the last one, and others between them that are drawn
    once, by the clip's fingerprint.

    Args:
        count: the number of candidates.
        frames: the number of frames of the clip, at least `count`.
        content: the fingerprint of the clip's file.

    Source: docs/explanation/arithmetic.md#candidates-for-keyframes
    """
    between = torch.randperm(max(frames - 2, 0), generator=generator(0, "keyframes", content))[: max(count - 2, 0)] + 1
    return sorted({0, *between.tolist(), *((frames - 1,) if count > 1 else ())})
