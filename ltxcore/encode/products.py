"""The products of a sample: for each folder the ingredients that shape the bytes, and the work that makes them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.uneven import times_of, timing_of
from ltxcore.encode.buckets import Bucket, ReferenceFactors
from ltxcore.encode.cut_sounds import read_cut
from ltxcore.encode.latent_masks import GREY_LEVEL, PCM_STEP, audio_mask, video_mask, without_noise
from ltxcore.encode.pixels import read_fitted
from ltxcore.encode.sample_sizes import STORED_MASKS, Planned, mask_shape
from ltxcore.encoded.store import read_mask
from ltxcore.errors import DataError
from ltxcore.media.pictures import Rendering
from ltxcore.media.probe import MediaInfo, Memory, read_clip, read_sound
from ltxcore.media.times import Timing, exact_rate
from ltxcore.modalities.audio import AudioModality
from ltxcore.protocols import Codec, Entry

VERSION = 2
"""The version of the encoding, raised whenever this package starts to make different bytes; samples of another version are made again."""

MASKS = Rendering(hdr="keep")
"""The rendering of masks: their numbers are shares, not light, whatever their tags say, and nothing is given where they
are transparent, which becomes black whatever the background of clips.
"""

LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff"})


@attrs.frozen(eq=False)
class Made:
    """The result of a product's work: tensors to store, frames per second of video latents, seconds of silence added to
    the end of the audio, and seconds of gaps in it that were filled with silence.
    """

    tensors: Mapping[str, Tensor]
    rate: float | None = None
    silence: float = 0.0
    holes: float = 0.0


@attrs.frozen(eq=False)
class Product:
    """A file to encode: its folder, its ingredients, and how it is made.

    Attributes:
        folder: the folder that it goes to.
        ingredients: everything that shapes its bytes, as JSON.
        encoder: the fingerprint of the codec or text encoder alone.
        make: the function that makes it.
        corrections: the corrections in reading its file since 0.1.0; see `ltxcore.encode.outdated`.
    """

    folder: str
    ingredients: Mapping[str, Any]
    encoder: str
    make: Callable[[], Made]
    corrections: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the product's bytes would."""
        return self._fingerprint(self.corrections)

    def set_right_since(self, fingerprint: str) -> tuple[str, ...] | None:
        """Return the corrections in reading its file since the product had this fingerprint; empty if it still has it,
        None if it never had.
        """
        for count in range(len(self.corrections), -1, -1):
            for made in combinations(self.corrections, count):
                if self._fingerprint(made) == fingerprint:
                    return tuple(name for name in self.corrections if name not in made)
        return None

    def _fingerprint(self, corrections: tuple[str, ...]) -> str:
        told = {"version": VERSION, "folder": self.folder, "encoder": self.encoder, **self.ingredients}
        if corrections:
            told["corrections"] = list(corrections)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@attrs.frozen(eq=False)
class Tools:
    """The tools that all samples are made with. A codec is used by one thread at a time, since it may lie on a device.

    Attributes:
        raw: the known facts about the files.
        video, audio: the codecs; None if not needed.
        factors: the factors of references.
        threads: the threads of each decoder.
        rendering: how the frames of clips become RGB.
    """

    raw: RawFiles
    video: Codec | None
    audio: Codec | None
    factors: ReferenceFactors
    threads: int = 1
    rendering: Rendering = attrs.field(factory=Rendering)
    turn: threading.Lock = attrs.field(factory=threading.Lock)
    _own: threading.local = attrs.field(factory=threading.local)

    @property
    def memory(self) -> Memory:
        """The memory of this thread, for the pixels of the clip that it works on."""
        if not hasattr(self._own, "memory"):
            self._own.memory = Memory()
        found: Memory = self._own.memory
        return found


Recipe = Callable[[Planned, Tools, Mapping[str, Entry]], Product]


def _latents(planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path, bucket = planned.sample.media["video"], planned.size
    return _pictures("latents", planned, tools, path, bucket, factor=1)


def _reference_latents(planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path = planned.sample.media["reference_video"]
    size = tools.factors.of(planned.size)
    if tools.raw.info(path).is_image:
        return _pictures("reference_latents", planned, tools, path, attrs.evolve(size, frames=1), factor=1)
    return _pictures("reference_latents", planned, tools, path, size, factor=tools.factors.temporal)


def _pictures(folder: str, planned: Planned, tools: Tools, path: Path, size: Bucket, factor: int) -> Product:
    codec, info = _codec(tools.video), tools.raw.info(path)
    retimed = _retimed(planned, tools, info)

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            timing, rendering = _timing(info, retimed), tools.rendering
            clip = read_fitted(path, size, factor=factor, threads=tools.threads, memory=tools.memory, rendering=rendering, timing=timing)
            with tools.turn:
                return Made({"latents": codec.encode(clip)}, None if info.is_image else clip.rate)

    ingredients = {"content": tools.raw.content(path), "size": str(size), "factor": factor}
    chosen = {**(tools.rendering.told(info.picture_corrections)), **_told_times(retimed, tools)}
    corrections = tools.rendering.corrected(info.picture_corrections)
    return Product(folder, {**ingredients, **chosen}, codec.fingerprint, make, corrections)


def _retimed(planned: Planned, tools: Tools, info: MediaInfo) -> MediaInfo | None:
    """Return the uneven clip whose times are used to resample a file's frames to a constant rate; None if they are taken as they are."""
    return times_of(info, tools.raw.info(planned.sample.media["video"])) if tools.raw.resamples else None


def _timing(info: MediaInfo, retimed: MediaInfo | None) -> Timing:
    return Timing(info.rate) if retimed is None or retimed.uneven is None else timing_of(retimed.path, retimed.uneven)


def _told_times(retimed: MediaInfo | None, tools: Tools) -> Mapping[str, Any]:
    """Return the choice to resample frames to a constant rate as an ingredient; empty if it makes no difference."""
    return {} if retimed is None else {"times": tools.raw.content(retimed.path), "rate": str(retimed.rate)}


def _audio_latents(planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    return _sound("audio_latents", planned, tools, planned.sample.sound, fill=True)


def _reference_audio_latents(planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    return _sound("reference_audio_latents", planned, tools, planned.sample.media["reference_audio"], fill=False)


def _sound(folder: str, planned: Planned, tools: Tools, path: Path, fill: bool) -> Product:
    codec, duration = _codec(tools.audio), planned.duration

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            cut = read_cut(path, _exact(duration, planned.bucket), fill)
            with tools.turn:
                return Made({"latents": codec.encode(cut.sound)}, silence=cut.added, holes=cut.holes)

    length = "all" if duration is None else str(duration)
    corrections = tools.raw.info(path).sound_corrections
    return Product(folder, {"content": tools.raw.content(path), "seconds": length}, codec.fingerprint, make, corrections)


def _exact(duration: Fraction | None, bucket: Bucket | None) -> Fraction | None:
    """Return the length of audio computed with the exact rate of its clip, so that clips of one rate have audio of one
    length, whatever decimals their containers state.

    The fingerprint contains the stated rate, as that of 0.1.0 does.
    """
    return duration if duration is None or bucket is None else bucket.frames / exact_rate(bucket.frames / duration)


def _video_masks(planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path, bucket = planned.sample.media["video_mask"], planned.size
    scale = _codec(tools.video).scale
    ingredients = {"content": tools.raw.content(path), "size": str(bucket), "scale": list(scale)}
    if path.suffix.lower() in STORED_MASKS:

        def make_stored() -> Made:
            with _blaming(planned.sample.at(path)):
                return Made({"mask": _stored_mask(path, bucket.cells(scale))})

        return Product("video_masks", ingredients, "", make_stored)

    info, clip = tools.raw.info(path), tools.raw.info(planned.sample.media["video"])
    shape, retimed = mask_shape(info, clip), _retimed(planned, tools, info)

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            timing, most = _timing(info, retimed), bucket.frames
            frames = read_clip(path, max_frames=most, threads=tools.threads, rendering=MASKS, timing=timing, stretched=False).frames
            if 1 < frames.shape[0] < bucket.frames:
                raise DataError(
                    f"has {frames.shape[0]} frames, fewer than it claims; {bucket.frames} are needed", remedy="Encode it again."
                )
            mask = video_mask(frames, bucket, scale, shape)
            return Made({"mask": mask if path.suffix.lower() in LOSSLESS else without_noise(mask, GREY_LEVEL)})

    stretched = {"square_pixels"} if shape not in (None, (info.height, info.width)) else set()
    corrections = tuple(sorted({*MASKS.corrected(info.picture_corrections), *stretched}))
    return Product("video_masks", {**ingredients, **_told_times(retimed, tools)}, "", make, corrections)


def _audio_masks(planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path, steps = planned.sample.media["audio_mask"], entries["audio_latents"].shape[1]
    scale = _codec(tools.audio).scale

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            if path.suffix.lower() in STORED_MASKS:
                return Made({"mask": _stored_mask(path, (steps,))})
            sound = read_sound(path)
            return Made({"mask": without_noise(audio_mask(sound.samples, sound.rate, steps, scale), 1.5 * PCM_STEP)})

    corrections = () if path.suffix.lower() in STORED_MASKS else tools.raw.info(path).sound_corrections
    ingredients = {"content": tools.raw.content(path), "steps": steps, "scale": list(scale)}
    return Product("audio_masks", ingredients, "", make, corrections)


def _stored_mask(path: Path, shape: tuple[int, ...]) -> Tensor:
    mask = read_mask(path).float()
    if tuple(mask.shape) != shape:
        wanted = " x ".join(map(str, shape))
        raise DataError(
            f"is a mask of {' x '.join(map(str, mask.shape))} values, but its sample has {wanted}",
            remedy="It must have one value per latent cell.",
        )
    return mask


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Make errors inside the block say which row and file they are about, not only the file."""
    try:
        yield
    except DataError as error:
        raise DataError.of(attrs.evolve(problem, where=where) for problem in error.problems) from error


def _codec(codec: Codec | None) -> Codec:
    if codec is None:
        raise ValueError("this folder needs a VAE that was not loaded")
    return codec


RECIPES: Mapping[str, Recipe] = {
    "latents": _latents,
    "audio_latents": _audio_latents,
    "reference_latents": _reference_latents,
    "reference_audio_latents": _reference_audio_latents,
    "video_masks": _video_masks,
    "audio_masks": _audio_masks,
}
"""The recipe of each folder, in the order in which they are made: audio masks come after the audio, whose length they take."""


def mask_alone(folder: str, planned: Planned, tools: Tools) -> Tensor:
    """Make a mask as it is encoded. An audio mask keeps its own length, since that of the audio latents is not known
    before they are made.

    Raises:
        DataError: it cannot be made.
    """
    if folder == "video_masks":
        return _video_masks(planned, tools, {}).make().tensors["mask"]
    path = planned.sample.media["audio_mask"]
    if path.suffix.lower() in STORED_MASKS:
        return read_mask(path)
    sound = read_sound(path)
    steps = max(1, int(sound.duration * AudioModality().default_rate))
    return audio_mask(sound.samples, sound.rate, steps, (4, 1, 1) if tools.audio is None else tools.audio.scale)
