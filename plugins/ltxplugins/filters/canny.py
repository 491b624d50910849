"""Make reference clips of edges, for an IC-LoRA that generates a clip from its outlines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, gt

from ltxcore.api import PluginError

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Canny:
    """Edges, where the brightness changes, in white on black. A pixel whose gradient is between the two thresholds is part
    of an edge if it touches a pixel above the higher one.
    """

    low: float = attrs.field(default=100.0, validator=ge(0), metadata={"help": "the lower threshold for gradients of brightness"})
    high: float = attrs.field(default=200.0, validator=gt(0), metadata={"help": "the higher threshold for gradients of brightness"})

    def problems(self) -> list[tuple[tuple[str], str, str]]:
        too_low = f"is {self.high:g}; it must be at least low, which is {self.low:g}"
        return [(("high",), too_low, "Raise high, or lower low.")] if self.high < self.low else []

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the edges of each frame.

        Raises:
            PluginError: OpenCV is not installed.

        Source: Canny (1986), https://doi.org/10.1109/TPAMI.1986.4767851; as OpenCV implements it, with a 3 x 3 Sobel filter and the sum of
        absolute gradients.
        """
        import torch

        cv2 = _opencv()
        for frame in frames:
            edges = cv2.Canny(cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGB2GRAY), self.low, self.high)
            yield torch.from_numpy(edges)[..., None].expand(-1, -1, 3)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise PluginError('the filter "canny" needs OpenCV, which is not installed', remedy='Run `pip install "ltx[tools]"`.') from error
    return cv2
