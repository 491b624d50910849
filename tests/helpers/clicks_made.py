"""Sounds of clicks a tenth of a second apart, with holes and overlaps where a test wants them, and where each click must be heard.

Also two other readings of the same files: that of version 0.1.0, and FFmpeg's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ltxcore.media.container import audio_stream, frames_of, opened, start_seconds, video_stream
from ltxcore.media.sounds import samples_of
from ltxcore.protocols import Sound

APART = Fraction(1, 10)
"""Seconds from click to click; the first one comes after half of that."""

RATE = 25
"""Pictures per second."""

Change = Callable[[float], float | None]
"""By the time at which a packet is, in seconds, by how much it is stamped later; None: it is left out."""


def click_times(seconds: float) -> list[Fraction]:
    return [(number + Fraction(1, 2)) * APART for number in range(int(Fraction(seconds) / APART))]


def clicks(seconds: float = 2.0, rate: int = 48_000) -> Sound:
    """Single samples of 0.9 in silence."""
    samples = torch.zeros(1, round(seconds * rate))
    samples[0, [round(at * rate) for at in click_times(seconds)]] = 0.9
    return Sound(samples, rate)


def click_file(
    path: Path,
    codec: str,
    seconds: float = 2.0,
    rate: int = 48_000,
    *,
    frame: int = 1024,
    pictures: float | None = 0.0,
    video: str | None = None,
) -> Path:
    """Clicks, with grey pictures beside them, of which every twelfth stands alone.

    Args:
        path: of the file; its ending says which container.
        codec: of the sound.
        seconds: how long.
        rate: samples per second.
        frame: samples in a packet, where the codec leaves that open.
        pictures: when the first one is shown, in seconds; none: there are none.
        video: codec of the pictures; none: as fits the container.
    """
    sound = clicks(seconds, rate)
    with av.open(str(path), "w", options=_options(path)) as container:
        shown = None
        if pictures is not None:
            shown = container.add_stream(video or {".webm": "libvpx", ".flv": "flv"}.get(path.suffix, "mpeg4"), rate=RATE)
            shown.height, shown.width, shown.pix_fmt = 16, 16, "yuv420p"
            shown.codec_context.gop_size, shown.codec_context.max_b_frames = 12, 0
        audio = container.add_stream(codec, rate=rate, layout="mono")
        wanted = av.AudioResampler(format=audio.codec_context.format or "fltp", layout="mono", rate=rate)
        for first in range(0, sound.samples.shape[1], frame):
            part = av.AudioFrame.from_ndarray(sound.samples[:, first : first + frame].contiguous().numpy(), format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = rate, first, Fraction(1, rate)
            for each in wanted.resample(part):
                container.mux(audio.encode(each))
        container.mux(audio.encode(None))
        for index in range(round(seconds * RATE) if shown is not None else 0):
            grey = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 100, np.uint8), format="rgb24").reformat(format="yuv420p")
            grey.pts, grey.time_base = index + round((pictures or 0) * RATE), Fraction(1, RATE)
            container.mux(shown.encode(grey))
        if shown is not None:
            container.mux(shown.encode(None))
    return path


def _options(path: Path) -> dict[str, str]:
    """Each packet of sound for itself, where MPEG-TS would put several under one time stamp."""
    return {"pes_payload_size": "0"} if path.suffix == ".ts" else {}


def changed(path: Path, to: Path, change: Change, pictures: Change = lambda at: 0.0) -> Path:
    """A copy of a file, packet by packet, whose sound's and pictures' packets are stamped later or left out."""
    with av.open(str(path)) as source, av.open(str(to), "w", options=_options(to)) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if not packet.size:
                continue
            packet.dts = packet.pts if packet.dts is None else packet.dts
            # A packet is where its middle is, so that rounding does not decide what happens to it.
            middle = (packet.pts + Fraction(packet.duration or 0, 2)) * packet.time_base
            later = (change if packet.stream.type == "audio" else pictures)(float(middle))
            if later is None:
                continue
            ticks = round(Fraction(later) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return to


def with_edits(path: Path, to: Path, edits: Sequence[tuple[float, int]]) -> Path:
    """An MP4 whose sound has another edit list: of each edit seconds, and the first sample of the medium that it shows; -1: nothing."""
    content = path.read_bytes()
    start, size = next((at, size) for at, size, kind in _boxes(content, 0, len(content)) if kind == b"moov")
    assert start + size == len(content), "a table that is not at the end of the file cannot grow"
    moov = content[start + 8 :]
    scale = int.from_bytes(next(moov[at + 20 : at + 24] for at, _, kind in _boxes(moov, 0, len(moov)) if kind == b"mvhd"), "big")
    entries = b"".join(round(s * scale).to_bytes(4, "big") + first.to_bytes(4, "big", signed=True) + b"\0\1\0\0" for s, first in edits)
    edts = _box(b"edts", _box(b"elst", bytes(4) + len(edits).to_bytes(4, "big") + entries))
    made = b""
    for at, length, kind in _boxes(moov, 0, len(moov)):
        box = moov[at : at + length]
        if kind == b"trak" and b"soun" in box:
            inner = box[8:]
            kept = [inner[a : a + n] for a, n, k in _boxes(inner, 0, len(inner)) if k != b"edts"]
            box = _box(b"trak", kept[0] + edts + b"".join(kept[1:]))
        made += box
    to.write_bytes(content[:start] + _box(b"moov", made))
    return to


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def _boxes(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while at < end:
        size = int.from_bytes(content[at : at + 4], "big")
        yield at, size, content[at + 4 : at + 8]
        at += size


def heard(sound: Sound, at: float, within: float = 0.02) -> tuple[float, float]:
    """The loudest moment near to a time, in seconds, and how loud it is; 0, 0 beyond the sound."""
    first = max(0, round((at - within) * sound.rate))
    near = sound.samples[0, first : max(0, round((at + within) * sound.rate))].abs()
    return ((first + int(near.argmax())) / sound.rate, float(near.max())) if len(near) else (0.0, 0.0)


def read_as_before(path: Path) -> torch.Tensor:
    """The samples as version 0.1.0 read them: one frame after the other, from where the first one's time stamp says against the start of the pictures."""
    with opened(path) as container:
        stream, pictures = audio_stream(container), video_stream(container)
        frames = list(frames_of(path, container, stream))
        samples, rate = torch.cat([samples_of(frame) for frame in frames], dim=1), frames[0].sample_rate
        if pictures is None or frames[0].pts is None:
            return samples
        lead = round((Fraction(frames[0].pts) * Fraction(frames[0].time_base) - start_seconds(pictures)) * rate)
        return torch.cat([torch.zeros(len(samples), max(0, lead)), samples], dim=1)[:, max(0, -lead) :]


def read_by_ffmpeg(path: Path) -> Sound:
    """The sound as FFmpeg's own filter puts it in time, from where the pictures start."""
    with opened(path) as container:
        stream, pictures = audio_stream(container), video_stream(container)
        frames = list(frames_of(path, container, stream))
        first, rate = frames[0], frames[0].sample_rate
        start = Fraction(first.pts) * Fraction(first.time_base) if pictures is None else start_seconds(pictures)
        graph = av.filter.Graph()
        source = graph.add_abuffer(sample_rate=rate, format=first.format.name, layout=first.layout.name, time_base=stream.time_base)
        place = graph.add("aresample", f"async=1:min_hard_comp=0.001:first_pts={round(start * rate)}")
        sink = graph.add("abuffersink")
        source.link_to(place)
        place.link_to(sink)
        graph.configure()
        parts = [samples_of(each) for frame in [*frames, None] for each in _through(graph, frame)]
    return Sound(torch.cat(parts, dim=1), rate)


def _through(graph: Any, frame: Any) -> Iterator[Any]:
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
