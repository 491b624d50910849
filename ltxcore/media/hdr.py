"""The conversion of HDR pictures (HLG and PQ) to BT.709.

The result is the light that a display of 1000 cd/m2 would show, with highlights compressed into the range of BT.709, in the colors of
BT.709.

The formulas are functions in float64. `Bt709` stores their values in tables, and applies these to the numbers of a frame in float32. It
computes what a table could not hold exactly enough: a color at the edge of BT.709 has a channel near 0, where a hundred-thousandth of the
light makes a difference of one level in the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import attrs
import torch
from torch import Tensor

Transfer = Literal["HLG", "PQ"]
Primaries = Literal["BT.2020", "P3", "BT.709"]
Matrix = Literal["BT.2020", "BT.709", "BT.601", "RGB"]

WHITE = 203.0
"""The luminance of HDR reference white in cd/m2, which becomes 1.0 in BT.709. Source: Report ITU-R BT.2408-7, table 1."""

PEAK = 1000.0
"""The peak luminance, in cd/m2, of the display that HLG is shown on. It is also assumed for the display that pictures were made on, if they
do not state the peak of that display.
"""

_PQ_PEAK = 10_000.0
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.55991073
_GAMMA = 1.2
"""The system gamma of HLG on a display of 1000 cd/m2. Source: Recommendation ITU-R BT.2100-2, table 5, note 5e."""

_WHITE_POINT = (0.3127, 0.3290)
_CHROMATICITIES: Mapping[Primaries, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        "BT.2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
        "P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
        "BT.709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    }
)
"""The chromaticities x and y of red, green and blue, all with the white D65. Source: Recommendations ITU-R BT.2020-2, BT.709-6, SMPTE EG
432-1.
"""

_LUMA: Mapping[Matrix, tuple[float, float]] = MappingProxyType(
    {"BT.2020": (0.2627, 0.0593), "BT.709": (0.2126, 0.0722), "BT.601": (0.299, 0.114)}
)
"""The shares of red and blue in luma. Source: Recommendations ITU-R BT.2100-2, table 6; BT.709-6, item 3.2; BT.601-7, item 2.5.1."""

_STEPS = 4096
"""The number of steps in the table of light. Light is interpolated linearly between entries, and is off by at most 1e-6."""

_FINE = 65_535
"""The last index of the tables that are indexed by square roots, in units of 1 / 65,535, and are not interpolated.
"""

_STRIP = 32_768
"""The number of pixels that are processed at a time, so that they stay in the processor's cache."""

_NO_COLOUR = 32_768.0
"""The number that stands for a color difference of 0 in 16 bits."""

_TINY = 1e-12
"""A light too small to matter. It replaces 0, since a processor takes ten times as long for the root of 0."""


@attrs.frozen
class Signal:
    """The meaning of the numbers of an HDR picture.

    Attributes:
        transfer: the transfer function by which the numbers encode light.
        primaries: the colors of red, green and blue.
        matrix: the matrix by which colors are stored as luma and two color differences; "RGB" if they are stored directly.
        full_range: whether the numbers use the full range, 0 to 2^n - 1, rather than studio range.
        peak: the peak luminance of the display that the picture was made on, in cd/m2.
    """

    transfer: Transfer
    primaries: Primaries = "BT.2020"
    matrix: Matrix = "BT.2020"
    full_range: bool = False
    peak: float = PEAK


def hlg_scene_light(signal: Tensor) -> Tensor:
    """Convert an HLG signal of any shape, 0 to 1, to scene light, 0 to 1.

    Source: Recommendation ITU-R BT.2100-2, table 5, "inverse OETF".
    """
    return torch.where(signal <= 0.5, signal.square() / 3, (((signal - _C) / _A).exp() + _B) / 12)


def pq_light(signal: Tensor) -> Tensor:
    """Convert a PQ signal of any shape, 0 to 1, to displayed light in cd/m2.

    Source: Recommendation ITU-R BT.2100-2, table 4, "EOTF".
    """
    powered = signal.pow(1 / _M2)
    return _PQ_PEAK * ((powered - _C1).clamp_min(0) / (_C2 - _C3 * powered)).pow(1 / _M1)


def pq_signal(light: Tensor) -> Tensor:
    """Convert displayed light of any shape, in cd/m2, to a PQ signal, 0 to 1.

    Source: Recommendation ITU-R BT.2100-2, table 4, "OETF" of displayed light.
    """
    powered = (light / _PQ_PEAK).pow(_M1)
    return ((_C1 + _C2 * powered) / (1 + _C3 * powered)).pow(_M2)


def pressed(light: Tensor, peak: float) -> Tensor:
    """Compress light of any shape, in cd/m2, from a display of `peak` to a display of `WHITE`. Light below the knee of the curve stays unchanged.

    Source: Report ITU-R BT.2390-11, section 5.4.1, with both blacks 0.
    """
    if peak <= WHITE:
        return light.clamp_max(WHITE)
    top = pq_signal(torch.tensor(peak, dtype=torch.float64))
    most = pq_signal(torch.tensor(WHITE, dtype=torch.float64)) / top
    knee = 1.5 * most - 0.5
    signal = (pq_signal(light) / top).clamp_max(1)
    t = (signal - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return torch.where(signal < knee, light, pq_light(curve * top))


def to_xyz(primaries: Primaries) -> Tensor:
    """Compute the matrix from linear red, green and blue to X, Y and Z, `[3, 3]` float64. Its second row holds the colors' shares of the
    luminance.

    Source: SMPTE RP 177, as Recommendation ITU-R BT.2087-0 uses it.
    """
    xy = torch.tensor([*_CHROMATICITIES[primaries], _WHITE_POINT], dtype=torch.float64).T
    xyz = torch.stack([xy[0] / xy[1], torch.ones_like(xy[0]), (1 - xy[0] - xy[1]) / xy[1]])
    return xyz[:, :3] * torch.linalg.solve(xyz[:, :3], xyz[:, 3])


def to_bt709(primaries: Primaries) -> Tensor:
    """Compute the matrix from linear red, green and blue of `primaries` to those of BT.709, `[3, 3]` float64.

    Source: Recommendation ITU-R BT.2087-0, the inverse of its matrix M2, with all its digits.
    """
    return torch.linalg.solve(to_xyz("BT.709"), to_xyz(primaries))


def bt1886_signal(light: Tensor) -> Tensor:
    """Return the signal, 0 to 1, for light of any shape, 0 to 1.

    Source: Recommendation ITU-R BT.1886-0, annex 1, the inverse of its EOTF with black 0: gamma 2.4.
    """
    return light.pow(1 / 2.4)


class Bt709:
    """A converter to BT.709 for HDR pictures with the same `Signal`."""

    def __init__(self, signal: Signal) -> None:
        """Make the tables for a signal; this takes some milliseconds."""
        self._signal = signal
        # The table counts light as a share of the brightest possible: 1 is `top` cd/m2.
        self._top = PEAK if signal.transfer == "HLG" else _PQ_PEAK
        steps = torch.arange(_STEPS + 1, dtype=torch.float64) / _STEPS
        light = hlg_scene_light(steps) if signal.transfer == "HLG" else pq_light(steps) / self._top
        self._light = light.to(torch.float32)
        self._slope = torch.cat([light.diff(), torch.zeros(1, dtype=torch.float64)]).to(torch.float32)
        self._luminance = [float(share) for share in to_xyz(signal.primaries)[1]]
        # This table has factors for the light, indexed by the square root of the brightest channel; entries are for the middle of their
        # range.
        middle = ((torch.arange(_FINE + 1, dtype=torch.float64) + 0.5) / _FINE).clamp_max(1).square()
        peak = PEAK if signal.transfer == "HLG" else signal.peak
        gain = pressed(middle * self._top, peak) / (middle * WHITE)
        # This table has levels of the result, indexed by the square root of the light.
        self._level = (255 * bt1886_signal(middle)).round().to(torch.uint8)
        if signal.primaries == "BT.709":
            self._to_bt709 = None
            gain *= _FINE**2
        else:
            self._to_bt709 = [[_FINE**2 * float(value) for value in row] for row in to_bt709(signal.primaries)]
        self._gain = gain.to(torch.float32)

    def pixels(self, planes: tuple[Tensor, Tensor, Tensor], bits: int) -> Tensor:
        """Convert a picture to `[H, W, 3]` uint8.

        Args:
            planes: luma and two color differences (blue, red), or red, green and blue; each `[H, W]` uint16, shifted up to 16 bits.
            bits: the number of bits before shifting; the full range is 0 to 2^bits - 1.
        """
        height, width = planes[0].shape
        result = torch.empty(height, width, 3, dtype=torch.uint8)
        rows = min(height, max(1, _STRIP // width))
        room = _Room.for_pixels(rows * width)
        for top in range(0, height, rows):
            strip = result[top : top + rows].view(-1, 3)
            part = room.of(strip.shape[0])
            for channel, plane in zip(part.first, planes, strict=True):
                channel.view(-1, width).copy_(plane[top : top + rows])
            self._decode(part, bits)
            self._convert(part)
            for channel in range(3):
                strip[:, channel].copy_(part.levels[channel])
        return result

    def _decode(self, room: _Room, bits: int) -> None:
        """Turn the 16-bit numbers in `room.first` into red, green and blue, as steps in the table of light, and write these to
        `room.second`.

        Source: Recommendation ITU-R BT.2100-2, tables 6 and 9.
        """
        full, values, signal = self._signal.full_range, room.first, room.second
        step = float(1 << (16 - bits) if full else 256)
        luma, black, colour = (float((1 << bits) - 1), 0.0, float((1 << bits) - 1)) if full else (219.0, 16.0, 224.0)
        if self._signal.matrix == "RGB":
            torch.mul(values.sub_(black * step), _STEPS / (luma * step), out=signal).clamp_(0, _STEPS)
            return
        kr, kb = _LUMA[self._signal.matrix]
        to_red, to_blue = (2 * (1 - share) * _STEPS / (colour * step) for share in (kr, kb))
        y = values[0].sub_(black * step).mul_(_STEPS / (luma * step))
        blue, red = values[1:].sub_(_NO_COLOUR)
        torch.add(y, red, alpha=to_red, out=signal[0])
        torch.add(y, blue, alpha=-to_blue * kb / (1 - kr - kb), out=signal[1]).add_(red, alpha=-to_red * kr / (1 - kr - kb))
        torch.add(y, blue, alpha=to_blue, out=signal[2])
        signal.clamp_(0, _STEPS)

    def _convert(self, room: _Room) -> None:
        """Turn the signal in `room.second` into levels of BT.709, and write these to `room.levels`."""
        at, light, index = room.second, room.first, room.index
        index.copy_(at)
        torch.index_select(self._slope, 0, index.view(-1), out=light.view(-1))
        light.mul_(at.frac_())
        light.add_(torch.index_select(self._light, 0, index.view(-1), out=at.view(-1)).view_as(at))
        brightest = torch.maximum(light[0], light[1], out=room.one)
        torch.maximum(brightest, light[2], out=brightest)
        if self._signal.transfer == "HLG":
            gain = _weighted(light, self._luminance, at[0]).clamp_min_(_TINY).log_().mul_(_GAMMA - 1).exp_()
            brightest.mul_(gain)
            gain.mul_(self._looked_up(self._gain, brightest.mul_(_FINE**2), index[0], at[1]))
        else:
            gain = self._looked_up(self._gain, brightest.mul_(_FINE**2), index[0], at[0])
        light.mul_(gain)
        if self._to_bt709 is not None:
            for channel, row in zip(at, self._to_bt709, strict=True):
                _weighted(light, row, channel)
            light = at
        self._looked_up(self._level, light.view(-1), index.view(-1), room.levels.view(-1))

    @staticmethod
    def _looked_up(table: Tensor, light: Tensor, index: Tensor, result: Tensor) -> Tensor:
        """Look up light `[N]`, in which `_FINE` squared stands for 1, in a table that is indexed by square roots. The light is
        overwritten.
        """
        index.copy_(light.clamp_(_TINY, _FINE**2).sqrt_())
        return torch.index_select(table, 0, index, out=result)


@attrs.frozen(eq=False)
class _Room:
    """Memory for the pixels that are being processed. Each tensor is `[3, N]`, except `one`, which is `[N]`. Allocating new memory each
    time would take as long as the work.
    """

    first: Tensor
    second: Tensor
    index: Tensor
    levels: Tensor
    one: Tensor

    @classmethod
    def for_pixels(cls, count: int) -> _Room:
        """Allocate memory for `count` pixels."""
        first, second = torch.empty(2, 3, count, dtype=torch.float32)
        one = torch.empty(count, dtype=torch.float32)
        return cls(first, second, torch.empty(3, count, dtype=torch.int32), torch.empty(3, count, dtype=torch.uint8), one)

    def of(self, count: int) -> _Room:
        """Return a part of the memory for `count` pixels."""
        if count == len(self.one):
            return self
        first, second, index, levels = (
            each.view(-1)[: 3 * count].view(3, count) for each in (self.first, self.second, self.index, self.levels)
        )
        return _Room(first, second, index, levels, self.one[:count])


def _weighted(light: Tensor, weights: list[float], result: Tensor) -> Tensor:
    """Write the weighted sum of the rows of light `[3, N]` to `result`, and return it."""
    return torch.mul(light[0], weights[0], out=result).add_(light[1], alpha=weights[1]).add_(light[2], alpha=weights[2])
