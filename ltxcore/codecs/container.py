"""Media files as PyAV opens them, with its errors turned into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from ltxcore.codecs.whole import is_cut_short
from ltxcore.errors import DataError

_TEXT_AS_PICTURES = frozenset({"tty", "bin", "xbin", "adf", "idf"})
"""Demuxers that render any text file as pictures of a terminal."""


_UNDECODED = {"skip_frame": "all"}
_MOST_STREAMS = 16


@contextmanager
def opened(path: Path, *, quick: bool = False) -> Iterator[Any]:
    """A PyAV input container. What PyAV raises inside the block, decoding included, leaves it as a DataError that names the file.

    Args:
        path: of the file.
        quick: whether FFmpeg opens it without decoding pictures to learn more than the container itself says.

    Raises:
        DataError: no such file, a folder, no medium, cut short, or damaged.
    """
    import av

    where = str(path)
    _check_file(path)
    if is_cut_short(path):
        raise DataError("this file is cut short: it ends before its own header says", where=where, remedy="Copy or download it again.")
    try:
        # An absolute path: a relative one with a colon in it would be taken for an address.
        options = [_UNDECODED] * _MOST_STREAMS if quick else []
        container = av.open(str(path.absolute()), metadata_errors="replace", stream_options=options)
    except av.error.FFmpegError as error:
        raise _not_media(where) from error
    with container:
        if container.format.name in _TEXT_AS_PICTURES:
            raise _not_media(where)
        try:
            yield container
        except av.error.FFmpegError as error:
            raise damaged(path, str(error.strerror)) from error


def _check_file(path: Path) -> None:
    where = str(path)
    if path.is_dir():
        raise DataError("this is a folder, not a medium", where=where, remedy="Name a file in it.")
    if not path.is_file():
        raise DataError(
            "there is no such file", where=where, remedy="Check the path; paths in a dataset are relative to the dataset's own folder."
        )


def _not_media(where: str) -> DataError:
    return DataError(
        "this is not a clip, a sound or an image that can be read",
        where=where,
        remedy="Play it to see whether it is whole, and convert it to MP4, WAV or PNG.",
    )


def damaged(path: Path, reason: str) -> DataError:
    """The error for a file that opens but does not decode to its end."""
    return DataError(f"this file is damaged: {reason}", where=str(path), remedy="Copy or download it again, or encode it anew.")


def frames_of(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """The decoded frames of a stream, in order of presentation.

    Raises:
        DataError: a packet is incomplete, which FFmpeg itself plays over.
    """
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise damaged(path, "a part of the stream is missing")
        yield from packet.decode()


def video_stream(container: Any) -> Any | None:
    """The first stream of pictures, a sound file's cover picture not counted; None if there is none."""
    from av.stream import Disposition

    return next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)


def audio_stream(container: Any) -> Any | None:
    """The first stream of sound; None if there is none."""
    return next(iter(container.streams.audio), None)


def counts_its_frames(container: Any) -> bool:
    """Whether the container's own tables tell the length, size and rate of its pictures, as those of MP4 and MOV do."""
    stream = video_stream(container)
    return "mp4" in container.format.name.split(",") and stream is not None and stream.frames > 0 and bool(stream.average_rate)


def is_image(container: Any) -> bool:
    """Whether the file is a single picture (PNG, JPEG, ...)."""
    name = container.format.name
    return bool(name == "image2" or name.endswith("_pipe"))


def start_seconds(stream: Any) -> Fraction:
    """When a stream starts, on the container's clock."""
    if stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return Fraction(stream.start_time) * Fraction(stream.time_base)
