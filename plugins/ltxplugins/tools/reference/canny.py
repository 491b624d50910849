"""Edges as references, for an IC-LoRA that generates a clip from its outlines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ltxcore.api import PluginError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

LOW, HIGH = 100, 200
"""The thresholds for gradients of brightness: a pixel between them is an edge if it touches one above the higher threshold."""


def canny(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Draw the edges in brightness in white on black, with the usual thresholds 100 and 200.

    Raises:
        PluginError: OpenCV is not installed.

    Source: Canny (1986), https://doi.org/10.1109/TPAMI.1986.4767851; as OpenCV has it, with a 3 x 3 Sobel filter and the sum of absolute gradients.
    """
    import torch

    cv2 = _opencv()
    for frame in frames:
        edges = cv2.Canny(cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGB2GRAY), LOW, HIGH)
        yield torch.from_numpy(edges)[..., None].expand(-1, -1, 3)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise PluginError(
            'the filter "canny" needs OpenCV, which is not installed', remedy='Install it: pip install "ltx[tools]"'
        ) from error
    return cv2


@hookimpl
def ltx_reference_filters() -> dict[str, Any]:
    return {"canny": canny}
