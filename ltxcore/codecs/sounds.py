"""Sound from files and back."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltxcore.codecs.atomic import replacing
from ltxcore.codecs.container import (
    audio_stream,
    damaged,
    frames_of,
    opened,
    start_seconds,
    unknown_codec,
    video_stream,
)
from ltxcore.errors import DataError
from ltxcore.protocols import Sound

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Samples per second that AAC has."""
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""Numbers of channels that AAC is written with."""
_AAC_BITS_PER_SAMPLE = 4
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
"""What 1.0 is in each of FFmpeg's sample formats."""


def read_sound(path: Path, *, max_duration: float | None = None) -> Sound:
    """The first sound of a file at its own rate and with all its channels.

    Sample 0 is where the file's pictures start (its own start, if it has none): a track that starts later is led by silence, one that starts
    earlier is cut. Nothing is decoded beyond `max_duration` seconds.

    Raises:
        DataError: no such file, no medium, no sound, cut short or damaged.
    """
    with opened(path) as container:
        stream = audio_stream(container)
        if (unheard := unknown_codec(path, container, "sound")) is not None:
            raise unheard
        if stream is None:
            raise DataError(
                "this file has no sound", where=str(path), remedy="Name a file with sound, or leave the sound of this sample out."
            )
        pictures = video_stream(container)
        samples, rate = _decode(path, container, stream, None if pictures is None else start_seconds(pictures), max_duration)
    if not samples.shape[1]:
        raise DataError("this file has no sound: its sound track is empty", where=str(path), remedy="Record or encode it anew.")
    return Sound(samples, rate)


def _decode(path: Path, container: Any, stream: Any, origin: Fraction | None, max_duration: float | None) -> tuple[Tensor, int]:
    """Samples `[channels, N]` and their rate, aligned to `origin` seconds on the container's clock."""
    parts: list[Tensor] = []
    rate, wanted, length = int(stream.rate or 1), -1, 0
    for part in _parts(path, container, stream, origin):
        if not parts:
            rate = part.rate
            wanted = -1 if max_duration is None else int(max_duration * rate)
        parts.append(part.samples)
        length += part.samples.shape[1]
        if 0 <= wanted <= length:
            break
    if not parts:
        return torch.zeros(1, 0), rate
    samples = torch.cat(parts, dim=1)
    return (samples if wanted < 0 else samples[:, :wanted]), rate


@contextmanager
def hearing(path: Path) -> Iterator[Iterator[Sound]]:
    """The first sound of a file piece by piece, aligned as `read_sound` has it; no piece where it has no sound.

    Raises:
        DataError: no such file, no medium; from the pieces, where they do not decode.
    """
    with opened(path) as container:
        stream, pictures = audio_stream(container), video_stream(container)
        if (unheard := unknown_codec(path, container, "sound")) is not None:
            raise unheard
        if stream is None:
            yield iter(())
        else:
            yield _parts(path, container, stream, None if pictures is None else start_seconds(pictures))


def _parts(path: Path, container: Any, stream: Any, origin: Fraction | None) -> Iterator[Sound]:
    rate = channels = skip = 0
    for frame in frames_of(path, container, stream):
        part = _as_float(frame)
        if not rate:
            rate, channels = int(frame.sample_rate), int(part.shape[0])
            lead = _lead(frame, origin, rate)
            if lead > 0:
                yield Sound(part.new_zeros(channels, lead), rate)
            skip = max(0, -lead)
        elif int(frame.sample_rate) != rate or part.shape[0] != channels:
            raise damaged(path, "its sound changes rate or channels on the way")
        cut = min(skip, part.shape[1])
        skip -= cut
        yield Sound(part[:, cut:], rate)


def _lead(frame: Any, origin: Fraction | None, rate: int) -> int:
    """Samples of silence before the first frame; negative: samples of it that come before the pictures start."""
    if origin is None or frame.pts is None:
        return 0
    return round((Fraction(frame.pts) * Fraction(frame.time_base) - origin) * rate)


def _as_float(frame: Any) -> Tensor:
    """A decoded frame as `[channels, N]` float32."""
    name = frame.format.name
    values = torch.from_numpy(frame.to_ndarray())
    if not frame.format.is_planar:
        values = values.reshape(frame.samples, -1).T
    kind = name.removesuffix("p")
    exact = values.to(torch.float64) if kind in ("s32", "s64", "dbl") else values.to(torch.float32)
    if kind == "u8":
        exact = exact - _FULL_SCALE[kind]
    return (exact / _FULL_SCALE[kind]).to(torch.float32).contiguous()


def write_sound(path: Path, sound: Sound) -> None:
    """Write a sound as WAV, 16 bits a sample; what lies outside [-1, 1] is clipped. The file appears whole or not at all.

    Raises:
        DataError: another ending than .wav, no samples, samples that are no numbers, or a file that cannot be written.
    """
    if path.suffix.lower() != ".wav":
        raise DataError(f'sounds are not written as "{path.suffix}"', where=str(path), remedy="Use .wav.")
    _check(sound, path)
    scaled = (sound.samples.to(torch.float64) * _FULL_SCALE["s16"]).round().clamp(-(2**15), 2**15 - 1)
    content = scaled.to(torch.int16).T.contiguous().numpy().astype("<i2").tobytes()
    with replacing(path) as beside, wave.open(str(beside), "wb") as file:
        file.setnchannels(int(sound.samples.shape[0]))
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(content)


def add_sound(container: Any, sound: Sound, path: Path) -> Any:
    """Add an AAC track for `sound` to an output container.

    Raises:
        DataError: a rate or a number of channels that AAC does not have, no samples, or samples that are no numbers.
    """
    _check(sound, path)
    channels = int(sound.samples.shape[0])
    if sound.rate not in AAC_RATES:
        raise DataError(
            f"a sound of {sound.rate} samples a second cannot be written as AAC",
            where=str(path),
            remedy=f"AAC has {', '.join(map(str, AAC_RATES))} samples a second.",
        )
    if channels not in AAC_LAYOUTS:
        raise DataError(
            f"a sound of {channels} channels cannot be written as AAC", where=str(path), remedy="Write 1, 2, 6 (5.1) or 8 (7.1) channels."
        )
    track = container.add_stream("aac", rate=sound.rate, layout=AAC_LAYOUTS[channels])
    track.bit_rate = _AAC_BITS_PER_SAMPLE * sound.rate * channels
    return track


def _check(sound: Sound, path: Path) -> None:
    if not sound.samples.numel():
        raise DataError("a sound without samples cannot be written", where=str(path))
    if not bool(sound.samples.isfinite().all()):
        raise DataError("a sound with samples that are no numbers (NaN or infinite) cannot be written", where=str(path))


def encode_sound(container: Any, track: Any, sound: Sound) -> None:
    """Write all samples of `sound` to the track that `add_sound` made."""
    import av

    values = sound.samples.to(torch.float32).contiguous().numpy()
    frame = av.AudioFrame.from_ndarray(values, format="fltp", layout=AAC_LAYOUTS[values.shape[0]])
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, 0, Fraction(1, sound.rate)
    container.mux(track.encode(frame))
    container.mux(track.encode(None))
