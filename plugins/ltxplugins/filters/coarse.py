"""Make reference clips without detail, for an IC-LoRA that adds detail to a clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, gt, le

from ltxcore.api import DataError

if TYPE_CHECKING:
    from torch import Tensor

REACH = 3
"""The distance at which a blur is cut off, in standard deviations."""


@attrs.frozen
class Blur:
    """The clip, blurred by a Gaussian."""

    sigma: float = attrs.field(
        default=8.0, validator=[gt(0), le(1000)], metadata={"help": "standard deviation of the Gaussian", "unit": "pixels"}
    )

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield blurred frames.

        Source: docs/explanation/arithmetic.md#coarse-references
        """
        import torch
        from torch.nn.functional import conv2d, pad

        reach = math.ceil(REACH * self.sigma)
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / self.sigma) ** 2)
        row = (weights / weights.sum()).float().view(1, 1, 1, -1)
        for frame in frames:
            edged = pad(frame.permute(2, 0, 1)[:, None].float(), (reach, reach, reach, reach), mode="replicate")
            blurred = conv2d(conv2d(edged, row), row.transpose(2, 3))
            yield _bytes(blurred[:, 0].permute(1, 2, 0))


@attrs.frozen
class Downscale:
    """The clip with fewer pixels, as a camera with a coarser sensor would see it."""

    factor: float = attrs.field(default=4.0, validator=ge(1), metadata={"help": "how many times smaller height and width become"})

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield smaller frames.

        Raises:
            DataError: nothing would be left of the frames.

        Source: docs/explanation/arithmetic.md#coarse-references
        """
        from torch.nn.functional import adaptive_avg_pool2d

        for frame in frames:
            size = round(frame.shape[0] / self.factor), round(frame.shape[1] / self.factor)
            if 0 in size:
                what = f"a frame of {frame.shape[0]} x {frame.shape[1]} pixels is too small for the factor {self.factor:g}"
                raise DataError(what, remedy="Choose a smaller factor, or leave the clip out.")
            yield _bytes(adaptive_avg_pool2d(frame.permute(2, 0, 1).float(), size).permute(1, 2, 0))


def _bytes(picture: Tensor) -> Tensor:
    import torch

    return picture.round().clamp(0, 255).to(torch.uint8)
