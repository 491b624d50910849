"""Make masks of a part of the picture: a box, a color, or what moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, gt, in_, le

from ltxcore.api import DataError

if TYPE_CHECKING:
    from torch import Tensor

Finding = tuple[tuple[str], str, str]


def _share(default: float, help: str) -> float:
    return attrs.field(default=default, validator=[ge(0), le(1)], metadata={"help": f"{help}, as a share of the picture"})


@attrs.frozen(kw_only=True)
class Region:
    """The keys that all filters for masks have: whether the part of the picture that they find is generated or given, and by how much it
    grows.
    """

    makes = "mask"

    region: Literal["generated", "given"] = attrs.field(
        default="generated", validator=in_(("generated", "given")), metadata={"help": "whether the region is generated, or everything else"}
    )
    grow: int = attrs.field(
        default=0, validator=[ge(0), le(1000)], metadata={"help": "how far the region is extended on all sides", "unit": "pixels"}
    )

    def mask(self, inside: Tensor) -> Tensor:
        """Return the frame of a mask, `[H, W, 3]`, for the pixels of the region, `[H, W]`.

        Source: docs/explanation/arithmetic.md#regions-of-masks
        """
        import torch
        from torch.nn.functional import max_pool2d

        if self.grow:
            size, reach = 2 * self.grow + 1, self.grow
            taller = max_pool2d(inside[None].float(), (size, 1), stride=1, padding=(reach, 0))
            inside = max_pool2d(taller, (1, size), stride=1, padding=(0, reach))[0] > 0
        given = inside if self.region == "given" else ~inside
        return given.to(torch.uint8).mul(255)[..., None].expand(-1, -1, 3)


@attrs.frozen(kw_only=True)
class Box(Region):
    """A box, the same in all frames."""

    top: float = _share(0.25, "where the box begins")
    left: float = _share(0.25, "where the box begins")
    bottom: float = _share(0.75, "where the box ends")
    right: float = _share(0.75, "where the box ends")

    def problems(self) -> list[Finding]:
        ends = (("bottom", self.bottom, "top", self.top), ("right", self.right, "left", self.left))
        return [
            ((name,), f"is {end:g}; it must be above {start}, which is {begin:g}", f"Write a larger {name}, or a smaller {start}.")
            for name, end, start, begin in ends
            if not end > begin
        ]

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        for frame in frames:
            rows = _between(frame.shape[0], self.top, self.bottom)
            columns = _between(frame.shape[1], self.left, self.right)
            yield self.mask(rows[:, None] & columns)


def _between(count: int, begin: float, end: float) -> Tensor:
    """Return the pixels of a row whose centres lie in a part of the picture."""
    import torch

    centres = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return (centres >= begin) & (centres < end)


@attrs.frozen(kw_only=True)
class Color(Region):
    """All pixels of a color, such as that of a green screen."""

    color: str = attrs.field(default="#00FF00", metadata={"help": 'the color: "#RRGGBB", or its name in HTML'})
    tolerance: float = attrs.field(
        default=0.2,
        validator=[ge(0), le(1)],
        metadata={"help": "largest difference of red, green and blue from those of the color; 1 is the difference of black and white"},
    )

    def problems(self) -> list[Finding]:
        try:
            _rgb(self.color)
        except ValueError:
            return [(("color",), f'"{self.color}" is not a color', 'Write it as "#RRGGBB", such as "#00FF00", or by its name in HTML.')]
        return []

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        import torch

        color = torch.tensor(_rgb(self.color), dtype=torch.int16)
        for frame in frames:
            yield self.mask((frame.to(torch.int16) - color).abs().amax(dim=-1) <= 255 * self.tolerance)


def _rgb(color: str) -> tuple[int, ...]:
    from PIL import ImageColor

    return ImageColor.getrgb(color)[:3]


@attrs.frozen(kw_only=True)
class Motion(Region):
    """All pixels that change from the frame before, or to the frame after."""

    threshold: float = attrs.field(
        default=0.1,
        validator=[gt(0), le(1)],
        metadata={"help": "the change of red, green or blue that counts as motion; 1 is the change from black to white"},
    )

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the mask of each frame, one frame late.

        Raises:
            DataError: there is only one frame.
        """
        import torch

        before = None
        moved = torch.zeros(0)
        for frame in frames:
            if before is not None:
                changes = (frame.to(torch.int16) - before.to(torch.int16)).abs().amax(dim=-1) >= 255 * self.threshold
                yield self.mask(changes if moved.numel() == 0 else moved | changes)
                moved = changes
            before = frame
        if before is not None and moved.numel() == 0:
            raise DataError("has only one frame, in which nothing can move", remedy="Leave it out, or make its mask in another way.")
        yield self.mask(moved)
