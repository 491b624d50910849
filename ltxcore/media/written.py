"""Functions that write clips and images to files."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from ltxcore.errors import DataError
from ltxcore.media.atomic import replacing
from ltxcore.media.sounds import add_sound, encode_sound
from ltxcore.media.times import exact_rate
from ltxcore.protocols import Clip, Sound

_IMAGE_CODECS = {".png": ("png", "rgb24"), ".jpg": ("mjpeg", "yuvj444p"), ".jpeg": ("mjpeg", "yuvj444p")}
_JPEG_QUALITY = 2
_H264_PIXELS, _H264_ODD_PIXELS = "yuv420p", "yuv444p"
_BT709, _STUDIO_RANGE = 1, 1
"""The numbers of ITU-T H.273 that written H.264 is tagged with at any size: one for primaries, transfer function and matrix, and one for
the range. The clips that models learn from have these properties, so our RGB is meant in the same way. Without tags, players would guess
from the size of the picture.
"""
_H264 = {"crf": "18", "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
"""The options of libx264. Its bytes depend on the number of threads, and with a macroblock tree on where memory happens to be, so it gets
one thread and no macroblock tree.
"""
_LOSSLESS = {"crf": "0"}


def write_clip(path: Path, clip: Clip, sound: Sound | None = None, comment: str = "") -> None:
    """Write a clip as MP4 (H.264 tagged as BT.709, with AAC for audio) at its exact rate, or a clip of one frame as PNG or JPEG.

    The file appears either complete or not at all. An MP4 file has `comment` in its metadata; an image has none.

    Raises:
        DataError: the extension is none of these, there are no frames, a side is odd (MP4), there is more than one frame or any audio
            (images), AAC does not support the audio, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if clip.frames.shape[0] == 0:
        raise DataError("a clip without frames cannot be written", where=str(path))
    if suffix in _IMAGE_CODECS:
        _write_image(path, clip, sound)
    elif suffix == ".mp4":
        _write_mp4(path, clip, sound, comment)
    else:
        raise DataError(f'a clip cannot be written as "{suffix}"', where=str(path), remedy="Use .mp4, or .png or .jpg for a single frame.")


def _write_image(path: Path, clip: Clip, sound: Sound | None) -> None:
    import av

    count = int(clip.frames.shape[0])
    if count > 1 or sound is not None:
        held = f"{count} frame{'s' if count > 1 else ''}{' and sound' if sound is not None else ''}"
        raise DataError(
            f"an image holds one frame and no sound, but this clip has {held}", where=str(path), remedy="Write the clip as .mp4."
        )
    name, pixels = _IMAGE_CODECS[path.suffix.lower()]
    codec = av.CodecContext.create(name, "w")
    codec.height, codec.width = int(clip.frames.shape[1]), int(clip.frames.shape[2])
    codec.pix_fmt, codec.time_base = pixels, Fraction(1)
    if name == "mjpeg":
        codec.qmin = codec.qmax = _JPEG_QUALITY
    picture = _packed(clip.frames[0]).reformat(format=pixels)
    picture.pts, picture.time_base = 0, Fraction(1)
    packets = [*codec.encode(picture), *codec.encode(None)]
    with replacing(path) as beside:
        beside.write_bytes(b"".join(bytes(packet) for packet in packets))


def _write_mp4(path: Path, clip: Clip, sound: Sound | None, comment: str) -> None:
    height, width = int(clip.frames.shape[1]), int(clip.frames.shape[2])
    if height % 2 or width % 2:
        raise DataError(
            f"frames of {height} x {width} pixels cannot be written as H.264", where=str(path), remedy="Height and width must be even."
        )
    write_frames(path, iter(clip.frames), exact_rate(clip.rate), sound, comment)


def write_frames(
    path: Path, frames: Iterator[Tensor], rate: Fraction, sound: Sound | None = None, comment: str = "", *, lossless: bool = False
) -> None:
    """Write frames `[H, W, 3]` uint8 RGB of the same size as MP4. Frames are written one at a time, so that a clip of any length needs only
    the memory of one frame.

    Frames with odd sizes are written with full color (4:4:4), which not every player shows. With `lossless`, the compression changes nothing,
    so that black and white are read back exactly. The file appears either complete or not at all.

    Raises:
        DataError: there are no frames, AAC does not support the audio, or the file cannot be written.
    """
    import av

    first = next(frames, None)
    if first is None:
        raise DataError("a clip without frames cannot be written", where=str(path))
    height, width = int(first.shape[0]), int(first.shape[1])
    pixels = _H264_ODD_PIXELS if height % 2 or width % 2 else _H264_PIXELS
    with (
        replacing(path) as beside,
        av.open(str(beside.absolute()), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container,
    ):
        if comment:
            container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=rate, options={**_H264, **(_LOSSLESS if lossless else {})})
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        _tag(stream.codec_context)
        track = None if sound is None else add_sound(container, sound, path)
        for index, frame in enumerate(chain([first], frames)):
            picture = _hd(frame, pixels)
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound is not None:
            encode_sound(container, track, sound)


def _tag(codec: Any) -> None:
    """Tag the stream and the container with the properties of the pixels that `_hd` makes."""
    codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = _BT709, _BT709, _BT709, _STUDIO_RANGE


def _hd(frame: Tensor, pixels: str) -> Any:
    """Convert RGB `[H, W, 3]` to Y'CbCr of BT.709, rounded to the nearest."""
    from av.video.reformatter import Interpolation

    return _packed(frame).reformat(
        format=pixels,
        interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
        dst_colorspace=_BT709,
        dst_color_range=_STUDIO_RANGE,
        dst_color_trc=_BT709,
        dst_color_primaries=_BT709,
    )


def _packed(frame: Tensor) -> Any:
    import av

    return av.VideoFrame.from_ndarray(frame.contiguous().numpy(), format="rgb24")
