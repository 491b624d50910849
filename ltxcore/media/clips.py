"""Functions that read clips and images from files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
"""The frames per second of an image: since it has no rate, its single frame is taken to last a second."""

_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}


@attrs.define(eq=False)
class Memory:
    """Memory that is reused for the pixels of each clip. Allocating new memory each time would take about a third as long as a resize."""

    _held: Tensor = attrs.field(factory=lambda: torch.empty(0, dtype=torch.uint8))

    def take(self, *shape: int) -> Tensor:
        """Return memory of this shape. What was taken before is overwritten."""
        size = math.prod(shape)
        if self._held.numel() < size:
            self._held = torch.empty(size, dtype=torch.uint8)
        return self._held[:size].view(shape)


def read_clip(
    path: Path,
    *,
    max_frames: int | None = None,
    last: bool = False,
    start: int = 0,
    resize: Resize | None = None,
    threads: int | None = None,
    memory: Memory | None = None,
    rendering: Rendering | None = None,
    timing: Timing | None = None,
    stretched: bool = True,
) -> Clip:
    """Read the first video stream of a file as it is shown.

    The frames are upright according to the metadata, with square pixels, with transparent parts over a background, and with HDR converted
    to BT.709. An image becomes a clip of one frame at `IMAGE_RATE`.

    Frames are decoded in one pass, and no more of them than `max_frames` requires. With `last`, all frames are decoded, and the last
    `max_frames` are kept. Each frame is returned once, unless `timing` states otherwise.

    Args:
        path: the file.
        max_frames: the maximum number of frames to read; None for all.
        last: whether to read the last frames instead of the first.
        start: the frame to begin with. Earlier frames are decoded, since later ones may refer to them, but not converted.
        resize: a function that returns the height and width of the result; None for the size at which the file is shown. Frames are resized
            one by one, so that only the result is held in memory.
        threads: the decoder's number of threads; None for one per processor.
        memory: the memory that the pixels of up to `max_frames` frames are written to, where they stay until the next clip is read into it;
            None for new memory.
        rendering: how frames become RGB; None for the defaults.
        timing: when the frames are shown; None for the times in the file.
        stretched: whether pixels that are not square are stretched to squares; if not, frames are upright but otherwise as stored.

    Raises:
        DataError: the file does not exist, is not a media file, has no pictures, is cut short or damaged, or is turned by an angle that is
            not a multiple of 90 degrees.
    """
    opening = reading(path, start=start, resize=resize, threads=threads, rendering=rendering, timing=timing, stretched=stretched)
    with opening as (rate, pictures):
        frames = _gathered(pictures if last else islice(pictures, max_frames), max_frames, memory or Memory())
    if frames is None:
        raise empty(path)
    return Clip(frames, float(rate))


def _gathered(pictures: Iterator[Tensor], most: int | None, memory: Memory) -> Tensor | None:
    """Collect the last `most` pictures `[H, W, 3]`, or all, into `[F, H, W, 3]`; None if there are no pictures.

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
    start: int | Callable[[], int] = 0,
    resize: Resize | None = None,
    threads: int | None = None,
    rendering: Rendering | None = None,
    timing: Timing | None = None,
    stretched: bool = True,
) -> Iterator[tuple[Fraction, Iterator[Tensor]]]:
    """Open the first video stream of a file, and yield its exact frames per second and an iterator over its frames.

    Frames are `[H, W, 3]` uint8 RGB, and are read as by `read_clip`.

    Args:
        path: the file.
        start: as in `read_clip`, or a function that returns it, which is asked for each frame.
        resize: as in `read_clip`.
        threads: as in `read_clip`.
        rendering: as in `read_clip`.
        timing: as in `read_clip`.
        stretched: as in `read_clip`.

    Raises:
        DataError: as in `read_clip`; if frames do not decode, the iterator over them raises this error.
    """
    rendering, timing = rendering or Rendering(), timing or Timing()
    photo = photo_of(path)
    if photo is not None:
        frames = _repeated(photo.frames(), timing)
        yield (
            exact_rate(timing.rate or photo.rate or Fraction(IMAGE_RATE)),
            _upright(path, frames, start, resize, SQUARE, Pictures(rendering, Tags(), str(path))),
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
        tags = Tags.of(stream.codec_context)
        yield exact_rate(rate), _upright(path, frames, start, resize, aspect, Pictures(rendering, tags, str(path)))


def _repeated(frames: Iterator[Any], timing: Timing) -> Iterator[Any]:
    """Yield each frame as often as it is shown."""
    if timing.repeats is None:
        return frames
    return (frame for frame, times in zip(frames, timing.repeats, strict=False) for _ in range(times))


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decode the frames of a stream; if the usual decoder does not read the stream's transparency, use one that does."""
    decoder = alpha_decoder(stream)
    if decoder is None:
        yield from frames_of(path, container, stream)
        return
    for packet in packets_of(path, container, stream):
        with blaming(path):
            pictures = decoder.decode(packet if packet.size else None)
        yield from pictures


def alpha_decoder(stream: Any) -> Any | None:
    """Create a decoder that reads the alpha of a WebM stream, which FFmpeg's own decoders ignore; None if the stream has no alpha, or there
    is no such decoder.
    """
    import av

    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        return av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        return None


def _upright(
    path: Path, frames: Iterator[Any], start: int | Callable[[], int], resize: Resize | None, aspect: Fraction, pictures: Pictures
) -> Iterator[Tensor]:
    turn, stored, size = Turn(), (0, 0), (0, 0)
    for index, frame in enumerate(frames):
        found = (frame.height, frame.width)
        if stored == (0, 0):
            turn, stored, square = turn_of(frame, path), found, squared(*found, aspect)
            # Frames go from the stored size to the wanted one in a single step, whatever the shape of the pixels.
            size = turn.size(*resize(*turn.size(*square))) if resize else square
        if found != stored:
            raise DataError(
                "the frames of this file differ in size",
                where=str(path),
                remedy="Encode the file again so that all frames have the same size.",
            )
        if index >= (start() if callable(start) else start):
            yield turn.applied(pictures.pixels(frame, size)[None])[0]
