"""Draw a picture of a file's audio, with time to the right, pitch upwards, and louder sounds brighter."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = 480
"""The maximum number of columns in a picture. A second takes 100 columns."""

RANGE = 8.0
"""The visible range below the loudest point, in natural logarithms of the amplitude."""

COLOURS = ((13, 12, 34), (66, 18, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
"""The colors from silence to the loudest point, with interpolation between them."""


def spectrogram(path: Path) -> bytes:
    """Draw the audio of a media file as a PNG file, 64 rows high.

    Raises:
        DataError: the file has no audio, or cannot be read.
    """
    from PIL import Image

    from ltxcore.api.media import log_mel, read_sound

    file = io.BytesIO()
    Image.fromarray(_coloured(log_mel(read_sound(path)).mean(dim=0)).numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()


def _coloured(mel: Tensor) -> Tensor:
    """Turn log amplitudes `[M, 64]` into colors `[64, columns, 3]` uint8."""
    import torch

    if mel.shape[0] > COLUMNS:
        mel = torch.nn.functional.adaptive_avg_pool1d(mel.T[None], COLUMNS)[0].T
    place = ((mel - mel.max()) / RANGE + 1).clamp(0, 1).T.flip(0) * (len(COLOURS) - 1)
    table = torch.tensor(COLOURS, dtype=torch.float32)
    low = place.floor().long().clamp(max=len(COLOURS) - 2)
    share = (place - low).unsqueeze(-1)
    return (table[low] * (1 - share) + table[low + 1] * share).round().to(torch.uint8)
