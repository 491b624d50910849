"""Pixel aspect ratios. Some video made for television is stored with pixels that are not square, and is stretched to its intended width
when it is shown.

As in players, only the width is stretched. Photographs and drawings (PNG, JPEG, GIF, ...) count as having square pixels, since the density
that they state is meant for printers.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ltxcore.media.container import is_image

SQUARE = Fraction(1)
WIDEST = 10
"""The largest accepted ratio of a pixel's sides; a larger ratio in a file is taken to be a mistake."""

_DRAWN = frozenset({"gif", "apng"})
_TELL_ON_OPENING = frozenset({"hevc", "vp9"})
"""The codecs whose streams state the aspect before their frames, or cannot state it."""

_H264_ASPECTS = (
    "1",
    "12/11",
    "10/11",
    "16/11",
    "40/33",
    "24/11",
    "20/11",
    "32/11",
    "80/33",
    "18/11",
    "15/11",
    "64/33",
    "160/99",
    "4/3",
    "3/2",
    "2",
)
"""The aspects that H.264 identifies by number, starting with number 1. Source: ITU-T H.264, table E-1."""
_H264_OTHER_ASPECT = 255
_UNTOLD = 2
_H264_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""The profiles whose parameters describe how color is stored. Source: ITU-T H.264, section 7.3.2.1.1."""


def pixel_aspect(container: Any, stream: Any, *, decoded: bool = True) -> Fraction | None:
    """Return the width of a stored pixel divided by its height. The value that the container states counts, or else the one that the stream
    states; if neither states anything, pixels are square.

    Args:
        container: the PyAV container.
        stream: its video stream.
        decoded: whether FFmpeg has already decoded a frame, as it does when it opens a file, unless told to be quick. Without a decoded
            frame, FFmpeg does not know what the stream states. For H.264, the parameters in the container are then read; for other
            codecs, the result is None if the container states nothing.
    """
    if is_image(container) or container.format.name in _DRAWN:
        return SQUARE
    told = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not told and not decoded:
        codec = stream.codec_context
        if codec.name == "h264":
            told = _h264_aspect(codec.extradata or b"")
        elif codec.name not in _TELL_ON_OPENING:
            return None
    return Fraction(told) if told and Fraction(1, WIDEST) <= told <= WIDEST else SQUARE


def squared(height: int, width: int, aspect: Fraction) -> tuple[int, int]:
    """Return the height and width of pictures after their pixels are stretched to squares."""
    return height, max(1, round(width * aspect))


class _Bits:
    """A reader of numbers from bits; it takes the highest bit of each byte first."""

    def __init__(self, content: bytes) -> None:
        self._bits, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("there are no more bits")
        return self._bits >> self._left & ((1 << count) - 1)

    def number(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.number()
        return (value + 1) // 2 if value % 2 else -(value // 2)


def _h264_aspect(parameters: bytes) -> Fraction | None:
    """Read the aspect from the first sequence parameters of an "avcC" box; None if they do not state it.

    Source: ITU-T H.264, section E.1.1.
    """
    try:
        bits = _first_parameters(parameters)
        return _aspect_in(bits) if bits is not None and _is_told_how_shown(bits) else None
    except ValueError:
        return None


def h264_transfer(parameters: bytes) -> int | None:
    """Read the transfer function, as a number of H.273, from the first sequence parameters of an "avcC" box; 2 if they do not state it, and
    None if they cannot be read.

    Source: ITU-T H.264, section E.1.1.
    """
    try:
        bits = _first_parameters(parameters)
        if bits is None:
            return None
        if not _is_told_how_shown(bits):
            return _UNTOLD
        _aspect_in(bits)
        if bits.take(1):  # this bit tells whether overscan is stated
            bits.take(1)
        if not bits.take(1):
            return _UNTOLD
        bits.take(4)  # these are the broadcast standard and the range
        return bits.take(16) & 255 if bits.take(1) else _UNTOLD
    except ValueError:
        return None


def _first_parameters(parameters: bytes) -> _Bits | None:
    """Find the first sequence parameters of an "avcC" box; None if the bytes are not such a box, or it has none.

    Source: ISO/IEC 14496-15, section 5.3.3.
    """
    if len(parameters) < 8 or parameters[0] != 1 or not parameters[5] & 31:
        return None
    unit = parameters[8 : 8 + int.from_bytes(parameters[6:8], "big")]
    return _Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))


def _is_told_how_shown(bits: _Bits) -> bool:
    """Read sequence parameters up to the part on how pictures are shown, and return whether this part follows.

    Source: ITU-T H.264, section 7.3.2.1.1.
    """
    profile = bits.take(24) >> 16
    bits.number()  # the id of the parameters
    if profile in _H264_WITH_CHROMA:
        chroma = bits.number()
        if chroma == 3:
            bits.take(1)
        bits.number(), bits.number(), bits.take(1)  # depths, and whether it is lossless
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _pass_scaling_list(bits, 16 if index < 6 else 64)
    bits.number()  # how frames are counted
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1), bits.signed(), bits.signed()
        for _ in range(bits.number()):
            bits.signed()
    bits.number(), bits.take(1), bits.number(), bits.number()  # reference frames, gaps, width, height
    if not bits.take(1):  # fields
        bits.take(1)
    bits.take(1)
    if bits.take(1):  # cropped
        for _ in range(4):
            bits.number()
    return bool(bits.take(1))


def _aspect_in(bits: _Bits) -> Fraction | None:
    if not bits.take(1):
        return None
    kind = bits.take(8)
    if kind == _H264_OTHER_ASPECT:
        width, height = bits.take(16), bits.take(16)
        return Fraction(width, height) if width and height else None
    return Fraction(_H264_ASPECTS[kind - 1]) if 1 <= kind <= len(_H264_ASPECTS) else None


def _pass_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
