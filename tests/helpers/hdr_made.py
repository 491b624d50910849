"""HDR pictures made for tests, and what they become, worked out once more from the Recommendations in float64."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

HLG, PQ = 18, 16
BT2020, BT709, P3 = 9, 1, 12
NCL = 9
STUDIO, FULL = 1, 2

GREYS: Numbers = np.tile(np.linspace(0, 1, 65), (3, 1))
"""The whole ramp of grey, `[3, 65]`."""

COLOURS: Numbers = np.array(
    [[level * ((index >> bit) & 1) for index in range(1, 8) for level in (0.25, 0.5, 0.75, 1.0)] for bit in (2, 1, 0)]
)
"""Red, green, blue, their mixtures and white, each in four strengths, `[3, 28]`."""

_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128


def pq_to_light(signal: Numbers) -> Numbers:
    """BT.2100, table 4."""
    root = signal ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def light_to_pq(light: Numbers) -> Numbers:
    """BT.2100, table 4, the other way."""
    power = (light / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


LUMINANCE = {BT2020: [0.2627, 0.6780, 0.0593], BT709: [0.2126, 0.7152, 0.0722]}


def hlg_to_light(signal: Numbers, primaries: int = BT2020) -> Numbers:
    """BT.2100, table 5: the inverse OETF, then the OOTF of a display of 1000 cd/m2. `[3, ...]`."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = np.tensordot(LUMINANCE[primaries], scene, 1)
    return np.asarray(1000 * luminance**0.2 * scene)


def pressed(light: Numbers, peak: float) -> Numbers:
    """BT.2390, 5.4.1, on the brightest of red, green and blue, to 203 cd/m2. `[3, ...]`."""
    brightest = np.maximum(light.max(0), 1e-9)
    most = light_to_pq(np.array(203.0)) / light_to_pq(np.array(peak))
    if most >= 1:
        return light * np.minimum(1, 203 / brightest)
    knee = 1.5 * most - 0.5
    e1 = np.minimum(light_to_pq(brightest) / light_to_pq(np.array(peak)), 1)
    t = (e1 - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    e2 = np.where(e1 < knee, e1, spline)
    return light * pq_to_light(e2 * light_to_pq(np.array(peak))) / brightest


def bt2020_to_bt709() -> Numbers:
    """The matrix of BT.2087, the other way, with all its digits: over XYZ."""

    def to_xyz(*corners: tuple[float, float]) -> Numbers:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
        x, y = 0.3127, 0.3290
        return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])

    bt2020 = to_xyz((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
    return np.linalg.inv(to_xyz((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))) @ bt2020


def shown(signal: Numbers, transfer: int, *, peak: float = 1000.0, primaries: int = BT2020) -> Numbers:
    """What red, green and blue of an HDR signal, 0 to 1, `[3, ...]`, become in BT.709: levels, 0 to 255, not rounded."""
    light = pressed(hlg_to_light(signal, primaries), 1000.0) if transfer == HLG else pressed(pq_to_light(signal), peak)
    linear = np.clip(light / 203, 0, None)
    if primaries == BT2020:
        linear = np.tensordot(bt2020_to_bt709(), linear, 1)
    return np.asarray(255 * np.clip(linear, 0, 1) ** (1 / 2.4))


def as_yuv(rgb: Numbers, bits: int, color_range: int) -> Numbers:
    """Luma and colour differences of a signal as whole numbers, `[3, ...]`: BT.2100, tables 6 and 9."""
    red, _, blue = rgb
    luma = 0.2627 * rgb[0] + 0.6780 * rgb[1] + 0.0593 * rgb[2]
    differences = np.stack([(blue - luma) / 1.8814, (red - luma) / 1.4746])
    if color_range == FULL:
        top = 2**bits - 1
        return np.concatenate([np.round(top * luma)[None], np.minimum(np.round(top * differences + 2 ** (bits - 1)), top)])
    step = 2 ** (bits - 8)
    return np.concatenate([np.round((219 * luma + 16) * step)[None], np.round((224 * differences + 128) * step)])


def as_rgb(yuv: Numbers, bits: int, color_range: int) -> Numbers:
    """The signal that such numbers mean, 0 to 1, `[3, ...]`."""
    top, step = 2**bits - 1, 2 ** (bits - 8)
    luma = yuv[0] / top if color_range == FULL else (yuv[0] / step - 16) / 219
    blue, red = (yuv[1:] - 2 ** (bits - 1)) / top if color_range == FULL else (yuv[1:] / step - 128) / 224
    red, blue = luma + 1.4746 * red, luma + 1.8814 * blue
    return np.clip(np.stack([red, (luma - 0.2627 * red - 0.0593 * blue) / 0.6780, blue]), 0, 1)


def patches(colours: Numbers, height: int = 16, width: int = 16) -> Numbers:
    """Colours `[3, N]` as flat patches beside each other, `[3, height, N * width]`, so that no resize of colour differences blurs their middles."""
    return np.repeat(np.repeat(colours[:, None], height, axis=1), width, axis=2)


def middles(pixels: Numbers, height: int = 16, width: int = 16) -> Numbers:
    """The pixel in the middle of each patch, `[3, N]`, of pixels `[H, W, 3]`."""
    return pixels[height // 2, width // 2 :: width].T


def write_hdr(
    path: Path,
    planes: Numbers,
    transfer: int,
    *,
    pixels: str = "yuv444p10le",
    codec: str = "ffv1",
    primaries: int = BT2020,
    matrix: int = NCL,
    color_range: int = STUDIO,
    frames: int = 1,
    rate: int = 16,
    told: str = "",
) -> Path:
    """A clip whose every frame has these numbers, `[3, H, W]`, tagged as told, and not changed by the codec; colour differences are
    thinned out where the format has fewer. `told`: more of x264's or x265's parameters.
    """
    height, width = planes.shape[1:]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=_lossless(codec, told))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        tag(stream.codec_context, transfer, primaries, matrix, color_range)
        for index in range(frames):
            frame = frame_of(planes, pixels)
            tag(frame, transfer, primaries, matrix, color_range)
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _lossless(codec: str, told: str) -> dict[str, str]:
    if codec == "libx265":  # without frames between others, whose times it sometimes makes up in so short a clip
        return {"x265-params": f"lossless=1:bframes=0:log-level=error:{told}".rstrip(":")}
    return {"libx264": {"qp": "0", "x264-params": told}, "libvpx-vp9": {"lossless": "1"}}.get(codec, {})


def tag(what: Any, transfer: int, primaries: int = BT2020, matrix: int = NCL, color_range: int = STUDIO) -> None:
    """Tell what a frame, or an encoder, means with its numbers."""
    what.color_trc, what.color_primaries, what.colorspace, what.color_range = transfer, primaries, matrix, color_range


def frame_of(planes: Numbers, pixels: str) -> av.VideoFrame:
    """Numbers `[3, H, W]` as a frame of PyAV."""
    height, width = planes.shape[1:]
    frame = av.VideoFrame(width, height, pixels)
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    for plane, numbers in zip(frame.planes, planes, strict=False):
        rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[:, : plane.width] = numbers[:: height // plane.height, :: width // plane.width]
        plane.update(rows.tobytes())
    return frame


_PNG_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}


def write_png(path: Path, pixels: Numbers, transfer: int, *, bits: int = 16, palette: bool = False, max_light: float = 0.0) -> Path:
    """A picture, 0 to 1, with what PNG says of HDR: cICP, and the brightest light in cd/m2 where it is told.

    Args:
        path: of the file.
        pixels: `[H, W, C]`: grey, grey and alpha, RGB, or RGB and alpha; with a palette `[H, W, 1]`, each an entry of a ramp of 256 greys.
        transfer: in H.273's numbers.
        bits: a channel, 8 or 16.
        palette: whether the pixels are entries of a palette.
        max_light: the brightest light; 0: not told.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.round((2**bits - 1) * pixels).astype(">u2" if bits == 16 else "u1"))
    light = chunk(b"cLLI", struct.pack(">II", round(10_000 * max_light), 0)) if max_light else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3 if palette else _PNG_KINDS[channels], 0, 0, 0))
    header += chunk(b"cICP", bytes([BT2020, transfer, 0, 1]))
    header += chunk(b"PLTE", bytes(level for entry in range(256) for level in (entry, entry, entry))) if palette else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + light + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def dolby_vision(profile: int, shown_as: int, has_base: bool = True) -> bytes:
    """A configuration record of Dolby Vision: version 1.0, level 6, with metadata, without an enhancement layer."""
    bits = profile << 9 | 6 << 3 | 1 << 2 | has_base
    return bytes([1, 0]) + bits.to_bytes(2, "big") + bytes([shown_as << 4]) + bytes(19)


def with_dolby_vision(path: Path, profile: int, shown_as: int, has_base: bool = True, *, box: bytes) -> Path:
    """An MP4 file of HEVC with a record at the end of its sample entry; the boxes around it grow, and lie behind the content, which stays where it is."""
    record, content = dolby_vision(profile, shown_as, has_base), bytearray(path.read_bytes())
    added = (8 + len(record)).to_bytes(4, "big") + box + record
    entry = content.index(b"hev1")
    assert content.index(b"mdat") < entry
    end = entry - 4 + int.from_bytes(content[entry - 4 : entry], "big")
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1"):
        start = content.rindex(kind, 0, entry + 4) - 4
        content[start : start + 4] = (int.from_bytes(content[start : start + 4], "big") + len(added)).to_bytes(4, "big")
    content[end:end] = added
    path.write_bytes(content)
    return path
