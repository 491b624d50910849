"""Compress images as frames of H.264, since models are trained on compressed clips."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

_PIXELS = "yuv420p"


def compressed(frames: Tensor, crf: int) -> Tensor:
    """Compress each frame separately, `[F, H, W, 3]` uint8 RGB, and return the frames that a player shows. Height and width are even.

    The preset is fixed and there is one thread, since both change the result.

    Args:
        frames: the frames.
        crf: the constant rate factor of libx264; 0 returns the frames unchanged.

    Source: docs/explanation/arithmetic.md#compressed-images
    """
    return frames if crf == 0 else torch.stack([_shown(frame, crf) for frame in frames])


def _shown(frame: Tensor, crf: int) -> Tensor:
    import av

    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = int(frame.shape[0]), int(frame.shape[1])
    encoder.pix_fmt, encoder.time_base, encoder.framerate = _PIXELS, Fraction(1), Fraction(1)
    encoder.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
    picture = av.VideoFrame.from_ndarray(frame.contiguous().numpy(), format="rgb24").reformat(format=_PIXELS)
    picture.pts, picture.time_base = 0, Fraction(1)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = [*encoder.encode(picture), *encoder.encode(None), None]
    (found,) = (shown for packet in packets for shown in decoder.decode(packet))
    return torch.from_numpy(found.to_ndarray(format="rgb24"))
