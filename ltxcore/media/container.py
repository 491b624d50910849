"""Functions that open media files with PyAV, and turn its errors into ours."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from ltxcore.errors import DataError, LtxError
from ltxcore.files import why_unreadable
from ltxcore.media.elsewhere import HEAD, lead, options
from ltxcore.media.whole import as_readable, is_cut_short, says_no_length

_UNDECODED = {"skip_frame": "all"}
_MOST_STREAMS = 16
_NAMES_OF_STREAMS = threading.Lock()

_LIBRARY = ("av/", "av\\")
"""The beginnings of the names that PyAV's own source files have in tracebacks."""

_MOST_KINDS_OF_SIDE_DATA = 64
"""An upper bound on the number of kinds of side data in FFmpeg; PyAV has names only for the first of these kinds."""

_SEQUENCES = frozenset({"avis", "msf1", "hevc", "hevx"})
"""The brands of AVIF and HEIC files that hold moving pictures and a still picture that stands for them."""


@contextmanager
def opened(path: Path, *, quick: bool = False) -> Iterator[Any]:
    """Open a file as a PyAV input container. Whatever PyAV raises inside the block, including errors of decoding, becomes a DataError that
    names the file.

    Args:
        path: the file.
        quick: whether FFmpeg opens the file without decoding pictures to find out more than the container states.

    Raises:
        DataError: the file does not exist, is a folder, a pipe or a device, cannot be read, is not a media file, is a playlist or script
            that leads to other files, is cut short, or is damaged.
    """
    check_whole(path)
    with ExitStack() as held:
        with blaming(path, opening=True):
            source = as_readable(path)
            if source is not None:
                held.enter_context(source)
            container = held.enter_context(_open(source or str(path.absolute()), quick))
        with blaming(path):
            yield container


def check_whole(path: Path) -> None:
    """Refuse a path that is not a complete media file before a library opens it.

    The library might otherwise wait for the file, follow it to other files, or play only a part of it.

    Raises:
        DataError: the file does not exist, is a folder, a pipe or a device, cannot be read, leads to other files, or is cut short.
    """
    where, why = str(path), why_unreadable(path)
    if why == "is not there":
        raise DataError(
            "there is no such file", where=where, remedy="Check the path; paths in a dataset are relative to the dataset's own folder."
        )
    if why == "is a folder, not a file":
        raise DataError("this is a folder, not a media file", where=where, remedy="Name a file in the folder.")
    if why.startswith("is"):
        raise DataError(f"this {why}", where=where, remedy="Name a file.")
    if why:
        raise unreadable(path, why.removeprefix("cannot be read: "))
    with blaming(path, opening=True):
        with path.open("rb") as file:
            found = lead(file.read(HEAD))
        short = is_cut_short(path)
    if found is not None:
        what, remedy = found
        raise DataError(f"this is {what}, not a media file", where=where, remedy=remedy)
    if short:
        raise DataError(
            "this file is cut short: it ends earlier than its header says", where=where, remedy="Copy or download the file again."
        )


def _open(file: Any, quick: bool) -> Any:
    """Open a file object or an absolute path. In a relative path, FFmpeg would take the part before a colon for a protocol."""
    import av

    told = {"metadata_errors": "replace", "container_options": options()}
    if quick:
        try:
            return av.open(file, **told, stream_options=[_UNDECODED] * _MOST_STREAMS)
        except av.error.FFmpegError:
            raise
        except ValueError:
            pass  # some formats, such as MPEG and FLV, reveal their streams only after they are opened
    return av.open(file, **told)


@contextmanager
def blaming(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Turn errors of PyAV and FFmpeg inside the block into a DataError that names the file. Errors of our own code stay as they are.

    Args:
        path: the file.
        opening: whether the file might still turn out not to be a media file.
    """
    import av

    try:
        yield
    except (av.error.FFmpegError, ValueError, OSError, MemoryError, ArithmeticError) as error:
        if not (isinstance(error, (av.error.FFmpegError, OSError)) or _is_pyavs(error)):
            raise
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
        if isinstance(error, av.error.PermissionError) or (isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError)):
            raise unreadable(path, reason) from error
        if opening and not isinstance(error, MemoryError):
            raise _not_media(str(path)) from error
        raise damaged(path, reason) from error
    except LtxError as error:
        if all(problem.where for problem in error.problems):
            raise
        raise error.at(str(path)) from error


def _is_pyavs(error: BaseException) -> bool:
    """Return whether PyAV, or code that it called, raised an error, that is, whether PyAV comes after our own code in the traceback."""
    trace, last = error.__traceback__, False
    while trace is not None:
        code = trace.tb_frame.f_code.co_filename
        if code.startswith(_LIBRARY):
            last = True
        elif trace.tb_frame.f_globals.get("__name__", "").startswith("ltxcore."):
            last = False
        trace = trace.tb_next
    return last


def _not_media(where: str) -> DataError:
    return DataError(
        "this is not a clip, a sound or an image that can be read",
        where=where,
        remedy="Play the file to see whether it is intact, and convert it to MP4, WAV or PNG.",
    )


def unreadable(path: Path, reason: str) -> DataError:
    """Make the error for a file whose bytes the system cannot read."""
    return DataError(f"this file cannot be read: {reason}", where=str(path), remedy="Check the permissions of the file, and the disk.")


def damaged(path: Path, reason: str) -> DataError:
    """Make the error for a file that opens but cannot be decoded to its end."""
    return DataError(
        f"this file is damaged: {reason}", where=str(path), remedy="Copy or download the file again, or encode the file again."
    )


def empty(path: Path) -> DataError:
    """Make the error for a file whose video stream has no pictures."""
    return DataError("this file has no video: its video stream is empty", where=str(path), remedy="Encode it again.")


def packets_of(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Read the packets of a stream, in the order of the file.

    Raises:
        DataError: a packet is incomplete, which FFmpeg itself ignores. Only the last packet of audio without a stated length may be
            incomplete.
    """
    with blaming(path):
        for packet in container.demux(stream):
            if packet.is_corrupt and not says_no_length(path):
                raise damaged(path, "a part of the stream is missing")
            yield packet


def frames_of(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decode the frames of a stream, in order of presentation.

    Raises:
        DataError: the frames do not decode, or a packet is incomplete.
    """
    for packet in packets_of(path, container, stream):
        with blaming(path):
            frames = packet.decode()
        yield from frames


def video_stream(container: Any) -> Any | None:
    """Return the first video stream that can be decoded; None if there is none. The cover picture of an audio file does not count."""
    streams = [stream for stream in _pictures(container) if stream.codec_context is not None]
    if container.metadata.get("major_brand") in _SEQUENCES:
        return max(streams, key=lambda stream: stream.frames, default=None)
    return next(iter(streams), None)


def is_animation(container: Any) -> bool:
    """Return whether a file is an animated AVIF or HEIC that begins with a still picture as a separate stream."""
    streams = [stream for stream in _pictures(container) if stream.codec_context is not None]
    return bool(streams) and video_stream(container) is not streams[0]


def audio_stream(container: Any) -> Any | None:
    """Return the first audio stream that can be decoded; None if no stream can."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def _pictures(container: Any) -> list[Any]:
    from av.stream import Disposition

    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def unknown_codec(path: Path, container: Any, kind: Literal["pictures", "sound"]) -> DataError | None:
    """Make the error for a file whose pictures (or audio, according to `kind`) are in a codec that this FFmpeg cannot decode; None if the
    file has no such stream, or one that can be decoded.
    """
    streams = _pictures(container) if kind == "pictures" else list(container.streams.audio)
    if not streams or any(stream.codec_context is not None for stream in streams):
        return None
    return DataError(
        f"the installed FFmpeg does not support the codec {_codec(container, streams[0])} of the {kind}",
        where=str(path),
        remedy="Convert the file to PNG, or to MP4 with H.264 and AAC; or, if the codec is new, run pip install --upgrade av",
    )


def _codec(container: Any, stream: Any) -> str:
    """Return the name of a stream's codec, or the codec's four-letter code in the file.

    Both the name and the code are taken from FFmpeg's description of the file, since PyAV knows neither for a codec without a decoder.
    """
    import av.logging

    with _NAMES_OF_STREAMS:
        before = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            told = container.dumps_format()
        finally:
            av.logging.set_level(before)
    found = re.search(rf"Stream #0:{stream.index}\b[^\n]*?: (?:Video|Audio): (\S+?)(?:,| \((\S+?) /|\s|$)", told)
    if found is None:
        return "(the file does not name it)"
    return f'"{found[2] if found[1] == "none" and found[2] else found[1]}"'


def is_mp4(container: Any) -> bool:
    """Return whether a file is MP4 or MOV, in which streams state their start before anything is decoded."""
    return "mp4" in container.format.name.split(",")


def counts_its_frames(container: Any) -> bool:
    """Return whether the container's tables state the length, size and rate of the video, as in MP4 and MOV."""
    stream = video_stream(container)
    return is_mp4(container) and stream is not None and stream.frames > 0 and bool(stream.average_rate)


def is_image(container: Any) -> bool:
    """Return whether a file is a single picture (PNG, JPEG, ...)."""
    name = container.format.name
    return bool(name == "image2" or name.endswith("_pipe"))


def start_seconds(stream: Any) -> Fraction:
    """Return the time when a stream starts, in seconds on the container's clock."""
    if stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return Fraction(stream.start_time) * Fraction(stream.time_base)


def side_data(frame: Any) -> Any:
    """Return the kinds of a decoded frame's side data that PyAV has names for.

    If PyAV lacks a name for any kind, `frame.side_data` itself raises an error.
    """
    try:
        return frame.side_data
    except ValueError:
        return _known_alone(frame).side_data


def _known_alone(frame: Any) -> Any:
    """Copy a frame without the kinds of side data that FFmpeg has numbers for but PyAV has no names for."""
    from av.filter import Graph
    from av.sidedata.sidedata import Type

    graph = Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1))
    source = last
    named: set[Any] = {kind.value for kind in Type}
    for kind in range(_MOST_KINDS_OF_SIDE_DATA):
        if kind not in named:
            without = graph.add("sidedata", f"mode=delete:type={kind}")
            last.link_to(without)
            last = without
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    source.push(frame)
    return sink.pull()
