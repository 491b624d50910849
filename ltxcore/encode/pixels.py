"""Functions that fit frames to a bucket: frames are resized until they cover the bucket, and cropped at the center. Masks are fitted in the
same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.encode.buckets import Bucket
from ltxcore.errors import DataError
from ltxcore.media.pictures import Rendering
from ltxcore.media.probe import Memory, read_clip
from ltxcore.media.reels import Reels
from ltxcore.media.times import Timing
from ltxcore.protocols import Clip


@attrs.frozen
class Cover:
    """The way that a frame of size `source` (height, width) covers a bucket.

    The frame is resized to `resized`, then cropped from (`top`, `left`) to `size`; all are in pixels.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]

    @classmethod
    def of(cls, height: int, width: int, bucket: Bucket) -> Cover:
        """Compute the smallest cover: one side fits, the other is at least as long, and its excess is cropped in equal halves from both
        ends.

        Source: docs/explanation/arithmetic.md#cover-and-crop
        """
        if width * bucket.height > height * bucket.width:
            resized = (bucket.height, max(bucket.width, width * bucket.height // height))
        else:
            resized = (max(bucket.height, height * bucket.width // width), bucket.width)
        top, left = (resized[0] - bucket.height) // 2, (resized[1] - bucket.width) // 2
        return cls((height, width), resized, top, left, (bucket.height, bucket.width))


def read_fitted(
    path: Path,
    size: Bucket,
    *,
    factor: int = 1,
    last: bool = False,
    start: int = 0,
    threads: int | None = None,
    memory: Memory | None = None,
    rendering: Rendering | None = None,
    timing: Timing | None = None,
    reels: Reels | None = None,
) -> Clip:
    """Read a file's frames fitted to a bucket. Frames are resized to cover it (bicubic, antialiased) as they are decoded, then cropped at
    the center.

    Args:
        path: the file.
        size: the size of the result.
        factor: the step between the frames that are taken, as in `subsampled`.
        last: whether to read the file's last frames instead of its first.
        start: as in `read_clip`.
        threads: the decoder's number of threads; None for one per processor.
        memory: as in `read_clip`.
        rendering: as in `read_clip`.
        timing: as in `read_clip`.
        reels: the files that are read on from where the previous window ended, in memory of their own; None to read from the beginning.

    Returns:
        `[F, H, W, 3]` uint8 of the bucket's size, at the file's rate divided by `factor`.

    Raises:
        DataError: as in `read_clip`, or the file has fewer frames than are needed.
    """
    needed = (size.frames - 1) * factor + 1
    how: dict[str, Any] = {
        "resize": lambda h, w: Cover.of(h, w, size).resized,
        "threads": threads,
        "rendering": rendering,
        "timing": timing,
    }
    if reels is None:
        clip = read_clip(path, max_frames=needed, last=last, start=start, memory=memory, **how)
    else:
        clip = reels.read(path, (size, rendering, timing), start, needed, **how)
    found, height, width, _ = clip.frames.shape
    if found < needed:
        what = f"has {found} frames, fewer than its header says; {needed} are needed"
        raise DataError(what, where=str(path), remedy="Encode it again.")
    top, left = (height - size.height) // 2, (width - size.width) // 2
    frames = subsampled(clip.frames, factor)[:, top : top + size.height, left : left + size.width]
    return Clip(frames, clip.rate / factor)


def subsampled(frames: Tensor, factor: int) -> Tensor:
    """Take frames 0, 1, 1 + factor, 1 + 2 factor, and so on: `[F, ...]` to `[(F - 1) / factor + 1, ...]`.

    Frame 0 has a latent frame to itself, so steps of `factor` are counted from frame 1.

    Source: docs/explanation/arithmetic.md#every-n-th-frame
    """
    if factor == 1:
        return frames
    return torch.cat([frames[:1], frames[1::factor]])


def cell_means(values: Tensor, cover: Cover, scale: Sequence[int]) -> Tensor:
    """Average the pixels `[h, w]` of a source frame over each latent cell of the bucket, `[H', W']` float32.

    The mean is exact: a cell covers a rectangle of the source with fractional edges, and a pixel on an edge counts by its share inside.

    Source: docs/explanation/arithmetic.md#masks-of-clips
    """
    rows = _box_weights(cover.source[0], cover.resized[0], cover.top, cover.size[0] // scale[1], scale[1])
    columns = _box_weights(cover.source[1], cover.resized[1], cover.left, cover.size[1] // scale[2], scale[2])
    return (rows @ values.to(torch.float64) @ columns.T).to(torch.float32)


def _box_weights(source: int, resized: int, offset: int, cells: int, step: int) -> Tensor:
    """Return the share of each of `source` pixels in each cell, `[cells, source]` float64. Each cell is `step` pixels of the resized frame,
    and the first one starts at `offset`.
    """
    edges = (offset + step * torch.arange(cells + 1, dtype=torch.float64)) * source / resized
    pixel = torch.arange(source, dtype=torch.float64)
    inside = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    weights = inside.clamp_min(0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def causal_means(cells: Tensor, factor: int) -> Tensor:
    """Average the pixel frames of each latent frame, from `[F, H', W']` to `[(F - 1) / factor + 1, H', W']`.

    Source: docs/explanation/arithmetic.md#masks-of-clips
    """
    if cells.shape[0] == 1:
        return cells
    rest = cells[1:].unflatten(0, (-1, factor)).mean(dim=1)
    return torch.cat([cells[:1], rest])
