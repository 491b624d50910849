"""HDR frames as FFmpeg decodes them, the meaning of their tags, and their conversion to pixels.

Tags are numbers of ITU-T H.273, which all containers and codecs share.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import DataError
from ltxcore.media.aspect import h264_transfer
from ltxcore.media.container import opened, side_data, video_stream
from ltxcore.media.hdr import PEAK, Bt709, Matrix, Primaries, Signal, Transfer

_TRANSFERS: Mapping[int, Transfer] = MappingProxyType({16: "PQ", 18: "HLG"})
_PRIMARIES: Mapping[int, Primaries] = MappingProxyType({1: "BT.709", 9: "BT.2020", 11: "P3", 12: "P3"})
_MATRICES: Mapping[int, Matrix] = MappingProxyType({1: "BT.709", 5: "BT.601", 6: "BT.601", 9: "BT.2020"})
_UNREAD: Mapping[int, str] = MappingProxyType(
    {
        8: "YCgCo",
        10: "BT.2020 with constant luminance",
        11: "Y'D'zD'x",
        12: "luma by their primaries",
        13: "constant luminance by their primaries",
    }
    | {14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
)
"""The color matrices that neither FFmpeg's conversion nor ours can read."""

_UNTOLD = frozenset({0, 2})
_FULL_RANGE = 2

_TELLING = frozenset({"h264", "hevc", "vvc", "av1", "vp9", "prores", "mpeg2video", "apv"})
"""The codecs whose frames may state color tags that the container lacks."""

_MASTERING = struct.Struct("=22i")
"""The layout of mastering metadata: as fractions, x and y of three primaries and the white, then the darkest and the brightest light; then
whether the colors and the lights are stated.
"""

_BRIGHTNESS = (50.0, 10_000.0)
"""The plausible range of the peak brightness of displays that HDR pictures are made on, in cd/m2; other values are ignored."""

_PLANES = re.compile(r"(gbra?p|gray|yuvj)(4\d\dp)?(\d*)(le)?")


@attrs.frozen
class Tags:
    """The color tags of pictures, as numbers of H.273, in which 2 and 0 state nothing.

    Attributes:
        transfer, primaries, matrix: the transfer function, the colors of red, green and blue, and the color matrix.
        range: the range as FFmpeg's number: 1 for studio range, 2 for full range, 0 if it is not stated.
    """

    transfer: int = 2
    primaries: int = 2
    matrix: int = 2
    range: int = 0

    @classmethod
    def of(cls, told: Any) -> Tags:
        """Read the tags of a PyAV frame, or of a stream's codec context."""
        return cls(int(told.color_trc), int(told.color_primaries), int(told.colorspace), int(told.color_range))

    def beside(self, others: Tags) -> Tags:
        """Return these tags, with each tag that states nothing taken from `others`."""
        return Tags(
            others.transfer if self.transfer in _UNTOLD else self.transfer,
            others.primaries if self.primaries in _UNTOLD else self.primaries,
            others.matrix if self.matrix in _UNTOLD else self.matrix,
            self.range or others.range,
        )

    @property
    def is_hdr(self) -> bool:
        """Whether the pictures are HLG or PQ."""
        return self.transfer in _TRANSFERS


def signal_of(frame: Any, stream: Tags, where: str) -> Signal | None:
    """Return the meaning of the numbers of an HDR frame in the file `where`; None if the frame is not HDR. Tags that the frame lacks are
    taken from its stream.

    Tags that no HDR picture has are replaced: primaries other than those of BT.2020 and P3 become those of BT.709, and an implausible peak
    becomes 1000 cd/m2.

    Raises:
        DataError: the frame, HDR or not, stores its colors in a way that cannot be read.
    """
    tags = Tags.of(frame).beside(stream)
    if tags.matrix in _UNREAD and not _is_rgb(frame):
        raise DataError(
            f"the colours of this file are encoded as {_UNREAD[tags.matrix]}, which is not supported",
            where=where,
            remedy="Encode the file again with the colour matrix of BT.2020 (bt2020nc) or BT.709.",
        )
    if not tags.is_hdr:
        return None
    primaries: Primaries = "BT.2020" if tags.primaries in _UNTOLD else _PRIMARIES.get(tags.primaries, "BT.709")
    transfer = _TRANSFERS[tags.transfer]
    peak = _peak(frame) if transfer == "PQ" else PEAK
    if _is_rgb(frame):
        return Signal(transfer, primaries, "RGB", True, peak)
    matrix = _MATRICES.get(tags.matrix, "BT.2020" if primaries == "BT.2020" else "BT.709")
    return Signal(transfer, primaries, matrix, _is_full(frame, tags), peak)


def _is_rgb(frame: Any) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)


def _is_full(frame: Any, tags: Tags) -> bool:
    return tags.range == _FULL_RANGE or str(frame.format.name).startswith("yuvj")


def _peak(frame: Any) -> float:
    """Return the peak luminance, in cd/m2, of the display that a frame was made on, or else of the frame's content, or else `PEAK`.

    Source: Recommendations ITU-T H.265 D.3.28 and D.3.35, which are SMPTE ST 2086 and CTA-861.3.
    """
    told = side_data(frame)
    display, content = (told.get(kind) for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    found = []
    if display is not None and len(bytes(display)) >= _MASTERING.size:
        *_, light, per, _, is_told = _MASTERING.unpack_from(bytes(display))
        found.append(light / per if is_told and per else 0.0)
    if content is not None:
        found.append(float(struct.unpack_from("=I", bytes(content))[0]))
    return next((light for light in found if _BRIGHTNESS[0] <= light <= _BRIGHTNESS[1]), PEAK)


def is_hdr(path: Path, stream: Any) -> bool:
    """Return whether a file's pictures are HDR. The first frame is decoded only if the tags of the stream do not settle the question."""
    tags = Tags.of(stream.codec_context)
    if stream.codec_context.name not in _TELLING or not (tags.is_hdr or tags.transfer in _UNTOLD):
        return tags.is_hdr
    if stream.codec_context.name == "h264" and tags.transfer in _UNTOLD:
        told = h264_transfer(stream.codec_context.extradata or b"")  # decoding a frame would take twenty times as long
        if told is not None:
            return Tags(transfer=told).is_hdr
    try:
        frame = _first_frame(path)
    except DataError:
        return tags.is_hdr  # the problem is reported when the pictures are read
    return (tags if frame is None else Tags.of(frame).beside(tags)).is_hdr


def _first_frame(path: Path) -> Any | None:
    with opened(path, quick=True) as container:
        stream: Any = video_stream(container)
        stream.thread_type, stream.thread_count = "NONE", 1
        for packet in container.demux(stream):
            # If told that nothing follows, the decoder returns the frame at once, rather than wait for frames that may be shown before it.
            for frame in packet.decode() or stream.decode(None):
                return frame
            stream.codec_context.flush_buffers()
    return None


@attrs.define(eq=False)
class HdrPictures:
    """A converter of a stream's HDR frames to pixels of BT.709; it makes the tables for each `Signal` only once."""

    _resizer: Any = attrs.field(init=False)
    _made: dict[Signal, Bt709] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._resizer = VideoReformatter()

    def pixels(self, frame: Any, size: tuple[int, int], signal: Signal) -> Tensor:
        """Convert a decoded frame to `[*size, 3]` uint8.

        The frame is first resized in its stored form, like pictures of BT.709: bicubic, and antialiased if it becomes smaller.

        Args:
            frame: a frame of PyAV.
            size: the height and width of the result, in pixels.
            signal: the meaning of the frame's numbers.
        """
        convert = self._made.get(signal) or self._made.setdefault(signal, Bt709(signal))
        carrier = _carried(frame)
        bits = int(carrier.format.components[0].bits)
        first, second, third = self._planes(carrier, size)
        return convert.pixels((third, first, second) if signal.matrix == "RGB" else (first, second, third), bits)

    def _planes(self, frame: Any, size: tuple[int, int]) -> list[Tensor]:
        """Return the three planes of a frame, each `[*size]` uint16, shifted up to 16 bits.

        FFmpeg is told that both the source and the result have studio range, since it shifts numbers of studio range, but sometimes
        stretches numbers of full range to 65535.
        """
        from av.video.reformatter import ColorRange, Interpolation

        ours = {"src_color_range": ColorRange.MPEG, "dst_color_range": ColorRange.MPEG, "interpolation": Interpolation.BICUBIC}
        scaled = self._resizer.reformat(frame, size[1], size[0], "yuv444p16le", threads=1, **ours)
        return [_rows(plane, torch.uint16)[: size[0], : size[1]] for plane in scaled.planes]


def _carried(frame: Any) -> Any:
    """Return a frame whose planes FFmpeg resizes but does not otherwise change.

    Planes of red, green and blue, and of gray, are passed as luma and color differences.
    """
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

    name, wide = str(frame.format.name), int(frame.format.components[0].bits) > 8
    by_planes = None
    if _is_rgb(frame) and not name.startswith("gbr"):
        by_planes = "gbrp16le" if wide else "gbrp"
    elif name.startswith("ya"):  # "ya" is gray with alpha
        by_planes = "gray16le" if wide else "gray"
    elif name.endswith("be"):
        by_planes = f"{name[:-2]}le"
    if by_planes is not None:
        frame = VideoReformatter().reformat(frame, format=by_planes, threads=1)
    found = _PLANES.fullmatch(str(frame.format.name))
    if found is None:
        return frame
    carrier = VideoFrame(frame.width, frame.height, f"yuv{found[2] or '444p'}{found[3]}{found[4] or ''}")
    kind = torch.uint16 if wide else torch.uint8
    for index, plane in enumerate(carrier.planes):
        rows = _rows(plane, kind)
        if index < len(frame.planes):
            rows[:, : plane.width].copy_(_rows(frame.planes[index], kind)[:, : plane.width])
        else:
            rows.fill_(1 << (int(carrier.format.components[0].bits) - 1))
    return carrier


def _rows(plane: Any, kind: torch.dtype) -> Tensor:
    """Return a plane's rows, including any padding at their ends, as a view that keeps the frame alive."""
    return torch.frombuffer(plane, dtype=kind).unflatten(0, (-1, plane.line_size // kind.itemsize))[: plane.height]
