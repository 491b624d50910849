"""The memory that encoding clips takes on a GPU before a run, counted by running the real encoder on tensors without memory.

Audio is not counted, because its encoder takes little memory compared with the encoder for video. `encoding_text` counts captions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ltxcore.codecs.official.tiles import Tiling
from ltxcore.encode.device_work import AT_ONCE
from ltxcore.planner.decoding import DTYPE, Cells, running


def encoding(encoder: nn.Module, cells: Cells, scale: Cells, *, tiles: bool) -> int:
    """Return the bytes that encoding takes: the encoder's weights, the pixels of all clips that are on the device at once, and the peak of
    everything else while one clip is encoded.

    Args:
        encoder: the encoder of clips.
        cells: the latent frames, rows and columns of a clip.
        scale: the pixel frames, rows and columns that a latent cell covers.
        tiles: whether clips are encoded in tiles.

    Source: docs/explanation/arithmetic.md#memory-of-preprocessing
    """
    spans = Tiling().cells(scale) if tiles else (None, None, None)
    piece = [size if span is None else min(size, span[0]) for size, span in zip(cells, spans, strict=True)]

    def run() -> None:
        waiting = [torch.empty(1, 3, *_pixels(cells, scale), dtype=torch.uint8) for _ in range(AT_ONCE)]
        frames, rows, columns = _pixels(piece, scale)
        pixels = waiting[0][..., :frames, :rows, :columns]
        scaled = pixels.to(torch.float32) / 127.5 - 1.0
        encoder(scaled.to(DTYPE))

    return running(encoder, run)


def _pixels(cells: Sequence[int], scale: Cells) -> Cells:
    return (cells[0] - 1) * scale[0] + 1, cells[1] * scale[1], cells[2] * scale[2]
