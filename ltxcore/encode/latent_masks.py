"""Functions that turn masks of raw media into one value per latent cell: the share of the cell that is given, 0 to 1. Nothing is
thresholded.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.encode.buckets import Bucket
from ltxcore.encode.pixels import Cover, causal_means, cell_means
from ltxcore.modalities.audio import AudioModality

GREY_LEVEL = 1 / 255
PCM_STEP = 1 / 32768


def video_mask(frames: Tensor, bucket: Bucket, scale: Sequence[int], shape: tuple[int, int] | None = None) -> Tensor:
    """Convert mask frames `[F, h, w, 3]` or `[F, h, w]`, uint8 or in [0, 1], to a mask of a bucket's latent cells, `[F', H', W']` float32.

    A single frame applies to all frames. The channels are averaged to gray, which is then averaged over the pixels and frames that a cell
    covers.

    Args:
        frames: the mask's frames: at least as many as the bucket has, or a single one.
        bucket: the target's bucket.
        scale: the video codec's pixel frames, rows and columns per latent cell.
        shape: the height and width that the mask is shown with, since its pixels need not be square; None for the size of its
            frames.

    Source: docs/explanation/arithmetic.md#masks-of-clips
    """
    stored = (int(frames.shape[1]), int(frames.shape[2]))
    cover = attrs.evolve(Cover.of(*(shape or stored), bucket), source=stored)
    cells = torch.stack([cell_means(_grey(frame), cover, scale) for frame in frames[: bucket.frames]])
    count = bucket.cells(scale)[0]
    pooled = causal_means(cells, scale[0]) if frames.shape[0] > 1 else cells.expand(count, -1, -1)
    return pooled.clamp(0.0, 1.0).contiguous()


def _grey(frame: Tensor) -> Tensor:
    values = frame.to(torch.float64)
    values = values / 255 if frame.dtype == torch.uint8 else values
    return values.mean(dim=-1) if frame.ndim == 3 else values


def without_noise(mask: Tensor, smallest: float) -> Tensor:
    """Round the values of a mask that are within `smallest` of 0 or 1.

    A lossy file cannot store 0 exactly, and a cell that is given to a thousandth would be left out of the loss as if it were given
    completely.
    """
    mask = torch.where(mask < smallest, torch.zeros_like(mask), mask)
    return torch.where(mask > 1 - smallest, torch.ones_like(mask), mask)


def audio_mask(samples: Tensor, rate: int, steps: int, scale: Sequence[int]) -> Tensor:
    """Convert mask samples `[channels, N]` of amplitude 0 to 1 to a mask of the audio's latent steps, `[steps]` float32.

    A step's value is the mean amplitude, over channels and over the time that the step covers. If a step reaches beyond the last sample,
    only the samples within the step count, or the last sample if none is within it.

    Args:
        samples: the samples of the mask; their sign does not matter.
        rate: the samples per second.
        steps: T, the number of steps of the audio's latents.
        scale: the audio codec's scale, which begins with the number of mel frames in a step.

    Source: docs/explanation/arithmetic.md#masks-of-sounds
    """
    amplitude = samples.to(torch.float64).abs().mean(dim=0)
    modality = AudioModality(mel_frames=scale[0])
    grid = modality.grid_of((1, steps, 1))
    seconds = modality.positions(grid, torch.ones(1))[0, 0].to(torch.float64)  # [T, 2]
    # Spans are whole mel frames, so that a step ends exactly where the next one starts, and no sample at an edge counts for both.
    spans = (seconds * modality.mel_rate).round()
    length = amplitude.shape[0]
    edges = (spans * rate / modality.mel_rate).clamp(0, length)  # in samples, fractional
    before = torch.cat([torch.zeros(1, dtype=torch.float64), amplitude.cumsum(0)])  # the integral up to each whole sample
    whole = edges.floor().long().clamp(max=length - 1)
    integral = before[whole] + (edges - whole) * amplitude[whole]
    width = edges[:, 1] - edges[:, 0]
    mean = (integral[:, 1] - integral[:, 0]) / width.clamp_min(1e-12)
    return torch.where(width > 1e-9, mean, amplitude[-1]).clamp(0.0, 1.0).to(torch.float32)
