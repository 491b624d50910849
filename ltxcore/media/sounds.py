"""Functions that read audio from files, and write audio to files."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import DataError
from ltxcore.media.atomic import replacing
from ltxcore.media.container import audio_stream, opened, unknown_codec
from ltxcore.media.sound_times import first_shown, in_place
from ltxcore.protocols import Sound

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""The samples per second that AAC supports."""
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""The channel layouts that AAC is written with, by number of channels."""
_AAC_BITS_PER_SAMPLE = 4
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
"""The value that stands for 1.0 in each of FFmpeg's sample formats."""


@attrs.frozen
class Gap:
    """A place where audio is not continuous. Silence fills a hole; where parts overlap, the later one is left out.

    Attributes:
        at: the place, in seconds from the first sample.
        seconds: the length of the hole; negative for an overlap.
    """

    at: float
    seconds: float


def read_sound(path: Path, *, max_duration: float | None = None) -> Sound:
    """Read the first audio stream of a file at its own rate and with all channels, positioned by its time stamps.

    Sample 0 is where the first shown picture of the file starts, or where the audio starts if there are no pictures. A track that starts
    later begins with silence, and a track that starts earlier is cut. Holes become silence; where two parts overlap, the first one counts.
    Nothing is decoded beyond `max_duration` seconds.

    Raises:
        DataError: the file does not exist, is not a media file, has no audio, or is cut short or damaged.
    """
    return read_with_gaps(path, max_duration=max_duration)[0]


def read_with_gaps(path: Path | str, *, max_duration: float | None = None, skip: int = 0) -> tuple[Sound, tuple[Gap, ...]]:
    """Read audio as `read_sound` does, and return it with its holes and overlaps in order.

    Args:
        path: the file.
        max_duration: the seconds of the file to read, counted from its beginning; None for all.
        skip: the whole seconds at the beginning that are decoded, but not returned. If the audio ends within them, no samples are returned.

    Raises:
        DataError: as in `read_sound`.
    """
    path, gaps = Path(path), list[Gap]()
    with opened(path) as container:
        stream = audio_stream(container)
        if (unheard := unknown_codec(path, container, "sound")) is not None:
            raise unheard
        if stream is None:
            raise DataError(
                "this file has no audio", where=str(path), remedy="Name a file with audio, or leave out the audio of this sample."
            )
        sound = _decode(_parts(path, container, stream, gaps), int(stream.rate or 1), max_duration, skip)
    if not sound.samples.shape[1] and not skip:
        raise DataError("this file has no audio: its audio track is empty", where=str(path), remedy="Record or encode the file again.")
    return sound, tuple(gaps)


def _decode(parts: Iterator[Sound], rate: int, max_duration: float | None, skip: int = 0) -> Sound:
    """Join pieces of audio to at most `max_duration` seconds, without the first `skip` seconds."""
    taken: list[Tensor] = []
    wanted, length = -1, 0
    for part in parts:
        if not taken:
            rate = part.rate
            wanted = -1 if max_duration is None else int(max_duration * rate)
            taken.append(part.samples[:, :0])
        before = max(0, skip * rate - length)
        if before < part.samples.shape[1]:
            taken.append(part.samples[:, before:])
        length += part.samples.shape[1]
        if 0 <= wanted <= length:
            break
    if not taken:
        return Sound(torch.zeros(1, 0), rate)
    samples = torch.cat(taken, dim=1)
    return Sound(samples if wanted < 0 else samples[:, : max(0, wanted - skip * rate)], rate)


@contextmanager
def hearing(path: Path) -> Iterator[Iterator[Sound]]:
    """Open the first audio stream of a file, and yield an iterator over its pieces, positioned as by `read_sound`. Without audio, there are
    no pieces.

    Raises:
        DataError: the file does not exist, or is not a media file; if pieces do not decode, the iterator over them raises this error.
    """
    with opened(path) as container:
        stream = audio_stream(container)
        if (unheard := unknown_codec(path, container, "sound")) is not None:
            raise unheard
        yield iter(()) if stream is None else _parts(path, container, stream, [])


def _parts(path: Path, container: Any, stream: Any, gaps: list[Gap]) -> Iterator[Sound]:
    """Decode pieces of audio, with silence for holes, so that the pieces follow each other without a break. Holes and overlaps are added to
    `gaps`.
    """
    at = 0
    for each in in_place(path, container, stream, first_shown(path, container)):
        samples, rate = samples_of(each.frame), int(each.frame.sample_rate)
        if each.is_moved and each.start != at and max(each.start, at) > 0:
            gaps.append(Gap(at / rate, (each.start - at) / rate))
        while at < each.start:  # Silence is made a second at a time, so that no more of it is made than is used.
            yield Sound(samples.new_zeros(samples.shape[0], min(each.start - at, rate)), rate)
            at += min(each.start - at, rate)
        if each.start + each.length > at:
            yield Sound(samples[:, at - each.start :], rate)
            at = each.start + each.length


def samples_of(frame: Any) -> Tensor:
    """Convert a decoded frame to `[channels, N]` float32."""
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
    """Write audio as WAV with 16 bits per sample, and clip values outside [-1, 1]. The file appears either complete or not at all.

    Raises:
        DataError: the extension is not .wav, there are no samples, samples are not finite, or the file cannot be written.
    """
    if path.suffix.lower() != ".wav":
        raise DataError(f'a sound cannot be written as "{path.suffix}"', where=str(path), remedy="Use .wav.")
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
        DataError: AAC does not support the rate or the number of channels, there are no samples, or samples are not finite.
    """
    _check(sound, path)
    channels = int(sound.samples.shape[0])
    if sound.rate not in AAC_RATES:
        raise DataError(
            f"a sound with {sound.rate} samples per second cannot be written as AAC",
            where=str(path),
            remedy=f"AAC supports {', '.join(map(str, AAC_RATES))} samples per second.",
        )
    if channels not in AAC_LAYOUTS:
        raise DataError(
            f"a sound with {channels} channels cannot be written as AAC", where=str(path), remedy="Write 1, 2, 6 (5.1) or 8 (7.1) channels."
        )
    track = container.add_stream("aac", rate=sound.rate, layout=AAC_LAYOUTS[channels])
    track.bit_rate = _AAC_BITS_PER_SAMPLE * sound.rate * channels
    return track


def _check(sound: Sound, path: Path) -> None:
    if not sound.samples.numel():
        raise DataError("a sound without samples cannot be written", where=str(path))
    if not bool(sound.samples.isfinite().all()):
        raise DataError("audio with NaN or infinite values cannot be written", where=str(path))


def encode_sound(container: Any, track: Any, sound: Sound) -> None:
    """Write all samples of `sound` to a track that `add_sound` made."""
    import av

    values = sound.samples.to(torch.float32).contiguous().numpy()
    frame = av.AudioFrame.from_ndarray(values, format="fltp", layout=AAC_LAYOUTS[values.shape[0]])
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, 0, Fraction(1, sound.rate)
    container.mux(track.encode(frame))
    container.mux(track.encode(None))
