"""Reading of clips and images from files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import DataError
from ltxcore.media.aspect import SQUARE, pixel_aspect, squared
from ltxcore.media.container import blaming, empty, frames_of, is_image, opened, packets_of, unknown_codec, video_stream
from ltxcore.media.dolby_vision import refuse_unshowable
from ltxcore.media.hdr_frames import Tags
from ltxcore.media.photos import photo_of
from ltxcore.media.pictures import Pictures, Rendering, Resize
from ltxcore.media.times import Timing, exact_rate, shown_frames
from ltxcore.media.upright import Turn, turn_of
from ltxcore.protocols import Clip

IMAGE_RATE = 1.0
"""The frames per second of an image, which has no rate of its own: its one frame lasts a second."""

_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}


@attrs.define(eq=False)
class Memory:
    """Memory that is reused for the pixels of each clip; allocating it anew would take about a third of the time of a
    resize.
    """

    _held: Tensor = attrs.field(factory=lambda: torch.empty(0, dtype=torch.uint8))

    def take(self, *shape: int) -> Tensor:
        """Return memory of this shape, in place of what was taken before, which is overwritten."""
        size = math.prod(shape)
        if self._held.numel() < size:
            self._held = torch.empty(size, dtype=torch.uint8)
        return self._held[:size].view(shape)


def read_clip(
    path: Path,
    *,
    max_frames: int | None = None,
    last: bool = False,
    resize: Resize | None = None,
    threads: int | None = None,
    memory: Memory | None = None,
    rendering: Rendering | None = None,
    timing: Timing | None = None,
    stretched: bool = True,
) -> Clip:
    """Read the first video stream of a file as it is shown: upright as its metadata say, with square pixels, with
    transparent parts over a background, and with HDR as BT.709. An image is a clip of one frame at `IMAGE_RATE`.

    Frames are decoded in one pass, each once unless `timing` says otherwise, and no further than `max_frames`; with
    `last`, all are decoded, and the last `max_frames` are kept.

    Args:
        path: the file.
        max_frames: the most frames to read; None for all.
        last: whether to read the last frames instead of the first.
        resize: a function that returns the height and width of the result; None for those that it is shown with. Frames
            are resized one by one, so that no more than the result is held.
        threads: the decoder's threads; None for one per processor.
        memory: the memory that the pixels of up to `max_frames` are written to, and stay in until the next clip is read
            into it; None for memory of their own.
        rendering: how frames become RGB; None for the defaults.
        timing: when its frames are shown; None for the times of the file.
        stretched: whether pixels that are not square are stretched to square ones; if not, they are returned as stored,
            but upright.

    Raises:
        DataError: there is no such file, it is not a media file, has no pictures, is cut short, damaged, or turned by an
            angle that is not a multiple of 90 degrees.
    """
    with reading(path, resize=resize, threads=threads, rendering=rendering, timing=timing, stretched=stretched) as (rate, pictures):
        frames = _gathered(pictures if last else islice(pictures, max_frames), max_frames, memory or Memory())
    if frames is None:
        raise empty(path)
    return Clip(frames, float(rate))


def _gathered(pictures: Iterator[Tensor], most: int | None, memory: Memory) -> Tensor | None:
    """Collect pictures `[H, W, 3]` into `[F, H, W, 3]`, keeping the last `most` of them; None if there are none.

    Each picture is copied as it comes, so that the decoder can use the memory of its frame again.
    """
    if most is None:
        every = list(pictures)
        return torch.stack(every) if every else None
    frames, count = None, 0
    for count, picture in enumerate(pictures, 1):
        if frames is None:
            frames = memory.take(most, *picture.shape)
        frames[(count - 1) % most] = picture
    if frames is None:
        return None
    return frames[:count] if count <= most else frames.roll(-count, dims=0)


@contextmanager
def reading(
    path: Path,
    *,
    resize: Resize | None = None,
    threads: int | None = None,
    rendering: Rendering | None = None,
    timing: Timing | None = None,
    stretched: bool = True,
) -> Iterator[tuple[Fraction, Iterator[Tensor]]]:
    """Open the first video stream of a file, and yield its exact frames per second and an iterator over its frames,
    each `[H, W, 3]` uint8 RGB, as `read_clip` reads them.

    Args:
        path: the file.
        resize: as `read_clip`.
        threads: as `read_clip`.
        rendering: as `read_clip`.
        timing: as `read_clip`.
        stretched: as `read_clip`.

    Raises:
        DataError: as `read_clip`; raised from the frames if they do not decode.
    """
    rendering, timing = rendering or Rendering(), timing or Timing()
    photo = photo_of(path)
    if photo is not None:
        frames = _repeated(photo.frames(), timing)
        yield (
            exact_rate(timing.rate or photo.rate or Fraction(IMAGE_RATE)),
            _upright(path, frames, resize, SQUARE, Pictures(rendering, Tags(), str(path))),
        )
        return
    with opened(path) as container:
        stream = video_stream(container)
        if (unseen := unknown_codec(path, container, "pictures")) is not None:
            raise unseen
        if stream is None:
            raise DataError("this file has no video", where=str(path), remedy="Name a clip or an image, or leave the video column out.")
        refuse_unshowable(path, container, stream)
        stream.thread_type, stream.thread_count = "AUTO", threads or 0
        aspect = (pixel_aspect(container, stream) or SQUARE) if stretched else SQUARE
        rate = Fraction(IMAGE_RATE) if is_image(container) else timing.rate or shown_frames(path)[1]
        frames = _repeated(_decoded(path, container, stream), timing)
        yield exact_rate(rate), _upright(path, frames, resize, aspect, Pictures(rendering, Tags.of(stream.codec_context), str(path)))


def _repeated(frames: Iterator[Any], timing: Timing) -> Iterator[Any]:
    """Repeat each frame as often as it is shown."""
    if timing.repeats is None:
        return frames
    return (frame for frame, times in zip(frames, timing.repeats, strict=False) for _ in range(times))


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decode the frames of a stream, using the decoder that finds its transparency if the usual one would not."""
    decoder = alpha_decoder(stream)
    if decoder is None:
        yield from frames_of(path, container, stream)
        return
    for packet in packets_of(path, container, stream):
        with blaming(path):
            pictures = decoder.decode(packet if packet.size else None)
        yield from pictures


def alpha_decoder(stream: Any) -> Any | None:
    """Create the decoder of a WebM stream with alpha, which FFmpeg's own decoders ignore; None if the stream has no
    alpha, or there is no such decoder.
    """
    import av

    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        return av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        return None


def _upright(path: Path, frames: Iterator[Any], resize: Resize | None, aspect: Fraction, pictures: Pictures) -> Iterator[Tensor]:
    turn, stored, size = Turn(), (0, 0), (0, 0)
    for frame in frames:
        found = (frame.height, frame.width)
        if stored == (0, 0):
            turn, stored, square = turn_of(frame, path), found, squared(*found, aspect)
            # From the stored size to the wanted one in one step, whatever the shape of the pixels.
            size = turn.size(*resize(*turn.size(*square))) if resize else square
        if found != stored:
            raise DataError("the frames of this file change their size", where=str(path), remedy="Encode it again at one size.")
        yield turn.applied(pictures.pixels(frame, size)[None])[0]
