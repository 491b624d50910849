"""Clips and sounds made for tests, and files that our own writing cannot make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ltxcore.protocols import Clip, Sound


def gradient_clip(frames: int = 9, height: int = 64, width: int = 96, rate: float = 24.0) -> Clip:
    """Smooth colours that move, without symmetry: red grows to the right, green downwards, blue with time."""
    time, row, column = torch.meshgrid(
        torch.linspace(0, 1, frames), torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    return Clip((255 * torch.stack([column, row, time], dim=-1)).round().to(torch.uint8), rate)


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0, channels: int = 1, start: float = 0.0) -> Sound:
    """A sine, silent before `start` seconds; each further channel an octave higher and half as loud."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    rows = [torch.sin(2 * math.pi * hertz * 2**c * time) * 0.5 ** (c + 1) * (time >= start) for c in range(channels)]
    return Sound(torch.stack(rows).to(torch.float32), rate)


def encode(
    path: Path,
    clip: Clip | None = None,
    sound: Sound | None = None,
    *,
    pictures: str = "libx264",
    codec: str = "aac",
    late: float = 0.0,
    **options: Any,
) -> Path:
    """A file in any format PyAV writes, by the ending of its name; `late`: seconds by which the sound starts after the pictures."""
    with av.open(str(path), "w") as container:
        video = audio = None
        if clip is not None:
            video = container.add_stream(pictures, rate=Fraction(clip.rate).limit_denominator(10_000))
            video.height, video.width, video.pix_fmt = clip.frames.shape[1], clip.frames.shape[2], options.get("pixels", "yuv420p")
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[sound.samples.shape[0]]
            audio = container.add_stream(codec, rate=sound.rate, layout=layout)
        if clip is not None and video is not None:
            for index, pixels in enumerate(clip.frames.numpy()):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format=video.pix_fmt)
                frame.pts, frame.time_base = index, 1 / Fraction(clip.rate).limit_denominator(10_000)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if sound is not None and audio is not None:
            wanted = av.AudioResampler(format=audio.codec_context.format or "fltp", layout=layout, rate=sound.rate)
            whole = av.AudioFrame.from_ndarray(sound.samples.numpy(), format="fltp", layout=layout)
            whole.sample_rate, whole.pts, whole.time_base = sound.rate, round(late * sound.rate), Fraction(1, sound.rate)
            for frame in wanted.resample(whole):
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def cut(path: Path, to: Path, share: float) -> Path:
    """The first `share` of a file's bytes."""
    content = path.read_bytes()
    to.write_bytes(content[: int(len(content) * share)])
    return to


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of uint8 pixels, in decibels."""
    return float(-10 * torch.log10(((one.double() - other.double()) / 255).square().mean()))


def pitch(sound: Sound, low: float = 60.0, high: float = 2000.0) -> float:
    """The strongest frequency of the first channel, in hertz."""
    samples = sound.samples[0].double()
    spectrum = torch.fft.rfft(samples * torch.hann_window(len(samples), dtype=torch.float64), 8 * len(samples)).abs()
    hertz = torch.arange(len(spectrum)) * sound.rate / (8 * len(samples))
    return float(hertz[(spectrum * ((hertz > low) & (hertz < high))).argmax()])


def cut_without_encoding(path: Path, to: Path, seconds: float) -> Path:
    """What is left of a clip's pictures from `seconds` on, its packets as they are, as `ffmpeg -ss SECONDS -c copy` leaves them: from the key frame
    before, with an edit list that hides what comes too early where the container has one."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        start = round(Fraction(seconds) / stream.time_base)
        source.seek(start, stream=stream)
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copied
            target.mux(packet)
    return to


def timed_clip(path: Path, ticks: Sequence[int], tick: Fraction, *, pictures: str = "libx264", rate: float = 24.0, size: int = 64) -> Path:
    """A clip whose frames start at `ticks`, each of `tick` seconds; number n is shown by the bits of n in eight bars, see `number_of`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(pictures, rate=Fraction(rate).limit_denominator(10_000))
        stream.height = stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = tick
        for number, at in enumerate(ticks):
            bars = np.array([230 if number >> bar & 1 else 20 for bar in range(8)], np.uint8).repeat(size // 8)
            pixels = np.ascontiguousarray(np.broadcast_to(bars[None, :, None], (size, size, 3)))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = at, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def number_of(picture: torch.Tensor) -> int:
    """The number that a frame of `timed_clip` shows."""
    bars = picture.float().mean(dim=(0, 2)).reshape(8, -1).mean(dim=1) > 128
    return sum(int(bar) << number for number, bar in enumerate(bars))
