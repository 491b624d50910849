"""The tiny video codec, which keeps the lowest cosine coefficients of blocks of pixels. It has no weights, and its clips can be
recognized.
"""

from __future__ import annotations

import math
from functools import cache

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.cosine_blocks import Statistics, basis, cosines, fingerprint, lowest, statistics
from ltxcore.errors import DataError
from ltxcore.protocols import Clip

FRAMES, ROWS, COLUMNS, COLOURS = 8, 32, 32, 3
CHANNELS = 128
_BLOCK = (FRAMES, ROWS, COLUMNS, COLOURS)


@attrs.define(eq=False)
class TinyVideoCodec:
    """A codec that turns clips of 8k + 1 frames, with sides that are multiples of 32 pixels, into latents `[128, k + 1, H / 32, W / 32]`,
    and back.

    The first frame, repeated eight times, fills a block of its own, so that it stands alone as in the real codec.
    """

    modality: str = attrs.field(default="video", init=False)
    scale: tuple[int, int, int] = attrs.field(default=(FRAMES, ROWS, COLUMNS), init=False)
    fingerprint: str = attrs.field(factory=lambda: fingerprint("video", _BLOCK, CHANNELS), init=False)

    def encode(self, medium: Clip) -> Tensor:
        """Encode a clip to latents `[128, F, H, W]`.

        Raises:
            DataError: the number of frames is not 8k + 1, or a side is not a multiple of 32 pixels.
        """
        return statistics(self.modality).standardised(coefficients(medium)).permute(3, 0, 1, 2).contiguous()

    def decode(self, latents: Tensor, rate: float) -> Clip:
        """Decode latents `[128, F, H, W]` to a clip of 8 (F - 1) + 1 frames, `rate` of them per second."""
        numbers = statistics(self.modality).restored(latents.to(torch.float32).permute(1, 2, 3, 0))
        frames, height, width, _ = numbers.shape
        blocks = (numbers @ basis(_BLOCK, _kept())).unflatten(-1, _BLOCK)  # [F, H, W, 8, 32, 32, 3]
        pixels = blocks.permute(0, 3, 1, 4, 2, 5, 6).reshape(frames * FRAMES, height * ROWS, width * COLUMNS, COLOURS)
        # These are eight decoded copies of the first frame; their mean is what was encoded.
        pixels = torch.cat([pixels[:FRAMES].mean(dim=0, keepdim=True), pixels[FRAMES:]])
        return Clip(((pixels + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8), rate)


def coefficients(clip: Clip) -> Tensor:
    """Compute the kept coefficients of a clip before they are standardized, `[F, H, W, 128]`.

    Raises:
        DataError: as in `TinyVideoCodec.encode`.

    Source: docs/explanation/arithmetic.md#cosine-blocks
    """
    frames, height, width, _ = clip.frames.shape
    if frames % FRAMES != 1 or height % ROWS or width % COLUMNS:
        raise DataError(
            f"a clip of {frames} frame{'' if frames == 1 else 's'} of {height} x {width} pixels cannot be encoded",
            remedy=f"The number of frames must be a multiple of {FRAMES} plus 1, and the height and width must be multiples of {ROWS}.",
        )
    # Cosines are separable, so going axis by axis takes a fortieth of the work; going frame by frame stays in the cache.
    along_time, down, across = _axes()
    # All frames use this memory in turn: new memory for each frame took a third more time, and sometimes far more.
    pixels = torch.empty(height, width, COLOURS)
    projected = torch.stack([_projected(pixels.copy_(frame), down, across) for frame in clip.frames])  # [frames, H, ky, W, kx * kc]
    # The first frame is repeated eight times, so over time it has only a mean.
    first = torch.cat([projected[:1] * math.sqrt(FRAMES), projected.new_zeros(along_time.shape[0] - 1, *projected.shape[1:])])
    rest = (along_time @ projected[1:].unflatten(0, (-1, FRAMES)).flatten(2)).unflatten(2, projected.shape[1:])
    every = torch.cat([first[None], rest]).permute(0, 2, 4, 1, 3, 5).flatten(3)  # [F, H, W, kt * ky * kx * kc]
    return every[..., _places()] / 127.5


def _projected(pixels: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Subtract 127.5 from a frame `[32 H, 32 W, 3]` of 0 to 255 in place, and project it onto the cosines of columns and rows, `[H, ky, W,
    kx * kc]`.
    """
    rows = down @ pixels.sub_(127.5).unflatten(0, (-1, ROWS)).flatten(2)  # [H, ky, 32 W * 3]
    return rows.unflatten(2, (-1, COLUMNS * COLOURS)) @ across


@cache
def _kept() -> tuple[tuple[int, ...], ...]:
    """Find the frequencies that are kept. This is done only on first use, since it takes as long as some commands."""
    return lowest(_BLOCK, CHANNELS)


@cache
def _counts() -> tuple[int, ...]:
    """Return how many cosines the kept frequencies use along each axis."""
    return tuple(max(k[axis] for k in _kept()) + 1 for axis in range(len(_BLOCK)))


@cache
def _axes() -> tuple[Tensor, Tensor, Tensor]:
    """Return the kept cosines of time `[kt, 8]`, of rows `[ky, 32]`, and of columns and colors together `[32 * 3, kx * kc]`."""
    times, rows, columns, colours = (cosines(size)[:count] for size, count in zip(_BLOCK, _counts(), strict=True))
    return times, rows, torch.kron(columns, colours).T.contiguous()


@cache
def _places() -> Tensor:
    """Return the kept frequencies' places among all products of the axes' kept cosines, `[128]`."""
    counts = _counts()
    strides = [math.prod(counts[axis + 1 :]) for axis in range(len(counts))]
    return torch.tensor([sum(k * stride for k, stride in zip(each, strides, strict=True)) for each in _kept()])


def measured(clips: list[Clip]) -> Statistics:
    """Measure the constants that standardize clips, from the clips in `clips`."""
    return Statistics.of(torch.cat([coefficients(clip).flatten(0, 2) for clip in clips]))
