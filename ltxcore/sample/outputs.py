"""Decode latents, and write them to media files that can be played."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ltxcore.codecs.mel import resample, to_stereo
from ltxcore.codecs.source import Codecs
from ltxcore.media.probe import write_clip, write_sound
from ltxcore.media.sounds import AAC_LAYOUTS, AAC_RATES
from ltxcore.memory import give_back_memory
from ltxcore.protocols import Clip, Codec, Sound
from ltxcore.sample.encode_inputs import Encoded

USUAL_RATE = 48_000
"""The rate, in samples per second, to which audio is resampled if AAC does not support its own rate."""


@attrs.frozen(eq=False)
class Played:
    """A sample as a clip, audio, or both, with a comment for the metadata of its file."""

    clip: Clip | None = None
    sound: Sound | None = None
    comment: str = ""

    @property
    def ending(self) -> str:
        """The extension of the sample's file: MP4 for a clip, PNG for a single frame, WAV for audio alone."""
        if self.clip is None:
            return ".wav"
        return ".png" if self.clip.frames.shape[0] == 1 else ".mp4"


@contextmanager
def decoders(model: Codecs, modalities: Collection[str]) -> Iterator[dict[str, Codec]]:
    """Return a context that provides the codecs of some modalities and frees them at its end. The weights of a codec
    are loaded when it first decodes.

    Raises:
        ConfigError: the model has no codecs.
        CheckpointError: the files of a codec are incomplete.
    """
    codecs = {name: model.video() if name == "video" else model.audio() for name in sorted(modalities)}
    try:
        yield codecs
    finally:
        codecs.clear()
        give_back_memory()


def decoded(latents: Mapping[str, Tensor], rates: Mapping[str, float], codecs: Mapping[str, Codec]) -> Played:
    """Decode one sample from the latents of its modalities, `[C, F, H, W]` and `[C, T, M]`, at `rates` frames per
    second.
    """
    found = {name: codecs[name].decode(tensor, rates[name]) for name, tensor in latents.items()}
    return Played(found.get("video"), found.get("audio"))


def shown(encoded: Encoded, latents: Mapping[str, Tensor], codecs: Mapping[str, Codec]) -> Played:
    """Decode a generated sample for viewing. Frozen modalities are taken from their files, and references are shown
    beside the clip if the sample asks for this.
    """
    drawn = decoded(latents, {name: encoded.canvas.rate(name) for name in latents}, codecs)
    clip, sound = encoded.media.get("video", drawn.clip), encoded.media.get("audio", drawn.sound)
    if not (clip is None or isinstance(clip, Clip)) or not (sound is None or isinstance(sound, Sound)):
        raise TypeError("frozen video needs a clip, and frozen audio needs a sound")
    return Played(clip if clip is None else with_references(clip, encoded.beside), sound, encoded.comment)


def write(played: Played, path: Path) -> Path:
    """Write one sample to a file: a clip and its audio as MP4, a single frame as PNG with the audio in a WAV file
    beside it, or audio alone as WAV.

    Args:
        played: the sample to write.
        path: the path of the file, without its extension.

    Returns:
        The file, with its extension.
    """
    place = path.with_name(f"{path.name}{played.ending}")
    if played.clip is None:
        if played.sound is None:
            raise ValueError("there is neither video nor audio to write")
        write_sound(place, played.sound)
    elif played.ending == ".png":
        write_clip(place, played.clip)
        if played.sound is not None:
            write_sound(path.with_name(f"{path.name}.wav"), played.sound)
    else:
        write_clip(place, played.clip, None if played.sound is None else for_aac(played.sound), played.comment)
    return place


def for_aac(sound: Sound) -> Sound:
    """Convert audio to a rate and a number of channels that AAC supports."""
    samples = sound.samples if sound.samples.shape[0] in AAC_LAYOUTS else to_stereo(sound.samples)
    if sound.rate in AAC_RATES:
        return Sound(samples, sound.rate)
    return Sound(resample(samples, sound.rate, USUAL_RATE).clamp(-1.0, 1.0), USUAL_RATE)


def write_media(latents: Mapping[str, Tensor], rates: Mapping[str, float], codecs: Mapping[str, Codec], path: Path) -> Path:
    """Decode one sample with `decoded`, and write it with `write`."""
    return write(decoded(latents, rates, codecs), path)


def with_references(clip: Clip, references: Sequence[Clip]) -> Clip:
    """Put references to the left of a clip, scaled to its height. The last reference is leftmost.

    Source: docs/explanation/arithmetic.md#reference-beside-the-result
    """
    frames = clip.frames
    for reference in references:
        resized = as_high(reference.frames, int(frames.shape[1]))
        frames = torch.cat([resized[shown_at(reference, clip)], frames], dim=2)
    return Clip(frames, clip.rate)


def as_high(frames: Tensor, height: int) -> Tensor:
    """Resize frames `[F, h, w, 3]` uint8 to a height. The aspect ratio is kept, except that the width is rounded to an even number."""
    own_height, own_width = int(frames.shape[1]), int(frames.shape[2])
    if own_height == height:
        return frames
    width = max(2, round(own_width * height / own_height / 2) * 2)
    return interpolate(frames.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=True).permute(0, 2, 3, 1)


def shown_at(reference: Clip, clip: Clip) -> Tensor:
    """Return, for each frame of the clip, the index of the reference's frame that is shown beside it, `[F]` int64.

    If a reference has fewer frames per second by a factor, its first frame is shown once, and each other frame is
    repeated by the factor. If the reference ends early, its last frame stays visible.
    """
    factor = max(1, round(clip.rate / reference.rate))
    index = torch.arange(clip.frames.shape[0])
    return ((index + factor - 1) // factor).clamp_max(reference.frames.shape[0] - 1)
