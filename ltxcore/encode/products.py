"""The products of a sample, one for each folder: the ingredients that shape a file's bytes, and the work that makes the file."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.columns import Cell, Target, spelled_params
from ltxcore.config.tables import plain
from ltxcore.dataset.columns import Column, Columns
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Sample
from ltxcore.dataset.uneven import times_of, timing_of
from ltxcore.encode.buckets import Bucket, ReferenceFactors
from ltxcore.encode.candidates import CANDIDATES, candidate_frames
from ltxcore.encode.cells import values_of
from ltxcore.encode.cut_sounds import read_cut
from ltxcore.encode.device_work import DeviceWork
from ltxcore.encode.latent_masks import GREY_LEVEL, PCM_STEP, audio_mask, video_mask, without_noise
from ltxcore.encode.pixels import read_fitted
from ltxcore.encode.sample_sizes import STORED_MASKS, Planned, mask_shape
from ltxcore.encoded.store import read_mask
from ltxcore.errors import DataError
from ltxcore.media.compressed import compressed
from ltxcore.media.pictures import Rendering
from ltxcore.media.probe import MediaInfo, Memory, frame_seconds, read_clip, read_sound
from ltxcore.media.reels import Reels
from ltxcore.media.times import Timing, exact_rate
from ltxcore.modalities.audio import AudioModality
from ltxcore.protocols import Clip, Codec, Entry
from ltxcore.state import Grid

VERSION = 2
"""The version of the encoding, raised whenever the package starts to make different bytes; samples of other versions are made again."""

MASKS = Rendering(hdr="keep")
"""The rendering of masks. A mask's numbers are shares, not light, whatever its tags say. Its transparent parts become black, whatever the
background of clips, so that nothing is given there.
"""

LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff"})


@attrs.frozen(eq=False)
class Made:
    """The result of making a product.

    It consists of the tensors to store, the frames per second of video latents, the seconds of silence added at the end of audio, and the
    seconds of gaps in audio that were filled with silence.
    """

    tensors: Mapping[str, Tensor]
    rate: float | None = None
    silence: float = 0.0
    holes: float = 0.0


@attrs.frozen(eq=False)
class Product:
    """A file to make, with its folder, its ingredients, and a function that makes it.

    Attributes:
        folder: the name of the folder that the file goes to.
        ingredients: everything that shapes the file's bytes, in values that JSON can hold.
        encoder: the fingerprint of the codec or text encoder alone.
        make: the function that makes the tensors.
        corrections: the corrections since 0.1.0 that apply to the raw file; see `ltxcore.encode.outdated`.
        column: the column whose plugin makes the file, with the plugin's parameters (`Entry.column`), which are also among the ingredients;
            "" for files that the core makes.
    """

    folder: str
    ingredients: Mapping[str, Any]
    encoder: str
    make: Callable[[], Made]
    corrections: tuple[str, ...] = ()
    column: str = ""

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the product's bytes would change."""
        return self._fingerprint(self.corrections)

    def set_right_since(self, fingerprint: str) -> tuple[str, ...] | None:
        """Return the corrections that were made since the product had this fingerprint; an empty tuple if the product still has it, None if
        it never had it.
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
    """The tools that all samples are made with. One thread at a time uses a codec, by way of `device`.

    Attributes:
        columns: the columns that the dataset could have.
        raw: the known facts about the files.
        video, audio: the codecs; None if not needed.
        threads: the number of threads of each decoder.
        rendering: how the frames of clips become RGB.
        candidates: the number of frames of each clip that are encoded as pictures, if these are wanted.
        crf: how strongly such pictures are compressed before they are encoded; 0 not at all.
        device: the work of the codecs on their device.
    """

    columns: Columns
    raw: RawFiles
    video: Codec | None
    audio: Codec | None
    threads: int = 1
    rendering: Rendering = attrs.field(factory=Rendering)
    candidates: int = CANDIDATES
    crf: int = 0
    device: DeviceWork = attrs.field(factory=DeviceWork)
    _own: threading.local = attrs.field(factory=threading.local)

    @property
    def memory(self) -> Memory:
        """This thread's memory for the pixels of the clip that it works on."""
        if not hasattr(self._own, "memory"):
            self._own.memory = Memory()
        found: Memory = self._own.memory
        return found

    @property
    def reels(self) -> Reels | None:
        """This thread's files that are read on from window to window; None unless it is making the windows of a clip."""
        return getattr(self._own, "reels", None)

    @contextmanager
    def rolling(self) -> Iterator[None]:
        """Return a context in which this thread makes the windows of a clip, the earliest first, and decodes each frame once."""
        with closing(Reels()) as self._own.reels:
            try:
                yield
            finally:
                self._own.reels = None


def media_folders(columns: Columns) -> tuple[str, ...]:
    """Return the folders that are made of media, in the order in which they are made."""
    return tuple(column.folder for column in columns.all if column.kind != "text")


def product_of(folder: str, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    """Return the product of a sample for a folder of media.

    Args:
        folder: the folder.
        planned: the sample.
        tools: the tools that it is made with.
        entries: the entries of the sample's files that are made before this one, by folder.

    Raises:
        DataError: a file cannot be read.
    """
    column = tools.columns.by_folder[folder]
    if column.is_data:
        return _encoded(column, planned, tools, entries)
    recipe = _RECIPES[column.kind, column.modality]
    return recipe(column, planned, tools, entries)


def _clip_latents(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path, factors = planned.sample.media[column.role], ReferenceFactors.of_column(column)
    size = factors.of(planned.size)
    if tools.raw.info(path).is_image:
        return _pictures(column.folder, planned, tools, path, attrs.evolve(size, frames=1), factor=1)
    return _pictures(column.folder, planned, tools, path, size, factor=factors.temporal)


def _pictures(folder: str, planned: Planned, tools: Tools, path: Path, size: Bucket, factor: int) -> Product:
    codec, info = _codec(tools.video), tools.raw.info(path)
    retimed, start = _retimed(planned, tools, info), _start(planned, info)

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            clip = _read(planned, tools, path, size, factor)
            (latents,) = tools.device.encode(codec, [clip])
            return Made({"latents": latents}, None if info.is_image else clip.rate)

    ingredients = {"content": tools.raw.content(path), "size": str(size), "factor": factor, **_told_start(start)}
    chosen = {**(tools.rendering.told(info.picture_corrections)), **_told_times(retimed, tools)}
    corrections = tools.rendering.corrected(info.picture_corrections)
    return Product(folder, {**ingredients, **chosen}, codec.fingerprint, make, corrections)


def _keyframes(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    """Return the product for the pictures of a clip: some of its frames, fitted like the clip, and each encoded by itself."""
    path, size, codec = planned.sample.media["video"], planned.size, _codec(tools.video)
    whole = _pictures(column.folder, planned, tools, path, size, factor=1)
    content = tools.raw.content(path)
    crf = {"crf": tools.crf} if tools.crf else {}
    frames = candidate_frames(min(tools.candidates, size.frames), size.frames, content)

    def make() -> Made:
        clip = _read(planned, tools, path, size)
        stills = compressed(clip.frames[frames], tools.crf)
        encoded = tools.device.encode(codec, [Clip(still[None], clip.rate) for still in stills])
        return Made({"pictures": torch.stack(encoded), "frames": torch.tensor(frames, dtype=torch.float32)})

    return attrs.evolve(whole, ingredients={**whole.ingredients, "frames": frames, **crf}, make=make)


def _read(planned: Planned, tools: Tools, path: Path, size: Bucket, factor: int = 1) -> Clip:
    info = tools.raw.info(path)
    timing, rendering = _timing(info, _retimed(planned, tools, info)), tools.rendering
    start, threads, memory, reels = _start(planned, info), tools.threads, tools.memory, tools.reels
    with tools.device.stage("decoding"):
        return read_fitted(
            path, size, factor=factor, start=start, threads=threads, memory=memory, rendering=rendering, timing=timing, reels=reels
        )


def _start(planned: Planned, info: MediaInfo) -> int:
    """Return the frame of a file that a sample begins with; 0 for an image, which goes with all windows of a clip."""
    return 0 if info.is_image else planned.sample.start


def _told_start(start: int | Fraction) -> Mapping[str, Any]:
    """Return the ingredient of a window that begins after its file does; an empty mapping for the beginning of a file."""
    return {"start": str(start)} if start else {}


def start_seconds(planned: Planned, tools: Tools) -> Fraction:
    """Return the time at which the first frame of a sample is shown, counted from the first frame of its clip.

    Source: docs/explanation/arithmetic.md#length-of-a-cut-sound
    """
    start = planned.sample.start
    if not start:
        return Fraction(0)
    info = tools.raw.info(planned.sample.media["video"])
    if info.uneven is not None and not tools.raw.resamples:
        shown = frame_seconds(info.path, start + 1)
        if len(shown) > start:
            return Fraction(round((shown[start] - shown[0]) * 1_000_000), 1_000_000)
    return start / exact_rate(info.rate or Fraction(1))


def _retimed(planned: Planned, tools: Tools, info: MediaInfo) -> MediaInfo | None:
    """Return the uneven clip whose frame times are used to resample a file to a constant rate; None if the file is not resampled."""
    return times_of(info, tools.raw.info(planned.sample.media["video"])) if tools.raw.resamples else None


def _timing(info: MediaInfo, retimed: MediaInfo | None) -> Timing:
    return Timing(info.rate) if retimed is None or retimed.uneven is None else timing_of(retimed.path, retimed.uneven)


def _told_times(retimed: MediaInfo | None, tools: Tools) -> Mapping[str, Any]:
    """Return the ingredients that resampling to a constant rate adds; an empty mapping if the file is not resampled."""
    return {} if retimed is None else {"times": tools.raw.content(retimed.path), "rate": str(retimed.rate)}


def _sound_latents(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    codec, duration = _codec(tools.audio), planned.duration
    path, start = sound_of(column, planned.sample), start_seconds(planned, tools)

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            with tools.device.stage("decoding"):
                cut = read_cut(path, _exact(duration, planned.bucket), fill=column.is_target, start=start)
            (latents,) = tools.device.encode(codec, [cut.sound])
            return Made({"latents": latents}, silence=cut.added, holes=cut.holes)

    length = "all" if duration is None else str(duration)
    corrections = tools.raw.info(path).sound_corrections
    ingredients = {"content": tools.raw.content(path), "seconds": length, **_told_start(start)}
    return Product(column.folder, ingredients, codec.fingerprint, make, corrections)


def sound_of(column: Column, sample: Sample) -> Path:
    """Return the file with the audio of a sample, or with its audio reference."""
    return sample.sound if column.is_target else sample.media[column.role]


def _exact(duration: Fraction | None, bucket: Bucket | None) -> Fraction | None:
    """Return the length of a clip's audio, computed with the clip's exact rate. Clips of the same rate thus have audio of the same length,
    whatever decimals their containers state.

    The fingerprint contains the stated rate, as in 0.1.0.
    """
    return duration if duration is None or bucket is None else bucket.frames / exact_rate(bucket.frames / duration)


def _video_mask(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path, bucket = planned.sample.media[column.role], planned.size
    scale = _codec(tools.video).scale
    ingredients = {"content": tools.raw.content(path), "size": str(bucket), "scale": list(scale)}
    if path.suffix.lower() in STORED_MASKS:

        def make_stored() -> Made:
            with _blaming(planned.sample.at(path)):
                return Made({"mask": _stored_mask(path, bucket.cells(scale))})

        return Product(column.folder, ingredients, "", make_stored)

    info, clip = tools.raw.info(path), tools.raw.info(planned.sample.media["video"])
    shape, retimed, start = mask_shape(info, clip), _retimed(planned, tools, info), _start(planned, info)

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            timing, most = _timing(info, retimed), bucket.frames
            frames = read_clip(
                path, max_frames=most, start=start, threads=tools.threads, rendering=MASKS, timing=timing, stretched=False
            ).frames
            if 1 < frames.shape[0] < bucket.frames:
                raise DataError(
                    f"has {frames.shape[0]} frames, fewer than its header says; {bucket.frames} are needed", remedy="Encode it again."
                )
            mask = video_mask(frames, bucket, scale, shape)
            return Made({"mask": mask if path.suffix.lower() in LOSSLESS else without_noise(mask, GREY_LEVEL)})

    stretched = {"square_pixels"} if shape not in (None, (info.height, info.width)) else set()
    corrections = tuple(sorted({*MASKS.corrected(info.picture_corrections), *stretched}))
    return Product(column.folder, {**ingredients, **_told_times(retimed, tools), **_told_start(start)}, "", make, corrections)


def _audio_mask(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    path, steps, start = planned.sample.media[column.role], entries["audio_latents"].shape[1], start_seconds(planned, tools)
    scale = _codec(tools.audio).scale

    def make() -> Made:
        with _blaming(planned.sample.at(path)):
            if path.suffix.lower() in STORED_MASKS:
                return Made({"mask": _stored_mask(path, (steps,))})
            return Made({"mask": without_noise(_audio_mask_of(path, start, steps, scale), 1.5 * PCM_STEP)})

    corrections = () if path.suffix.lower() in STORED_MASKS else tools.raw.info(path).sound_corrections
    ingredients = {"content": tools.raw.content(path), "steps": steps, "scale": list(scale), **_told_start(start)}
    return Product(column.folder, ingredients, "", make, corrections)


def _audio_mask_of(path: Path, start: Fraction, steps: int | None, scale: Sequence[int]) -> Tensor:
    """Read the mask of the part of some audio that begins at `start` seconds, or its last sample if it ends before that; with `steps` None,
    the mask is as long as its file.
    """
    sound = read_sound(path)
    samples = sound.samples[:, min(math.floor(start * sound.rate), sound.samples.shape[1] - 1) :]
    if steps is None:
        steps = max(1, int(samples.shape[1] / sound.rate * AudioModality().default_rate))
    return audio_mask(samples, sound.rate, steps, scale)


def _encoded(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Product:
    """Return the product that the plugin of a column makes from a cell."""
    cell, target = planned.sample.cells[column.role], _target(column, planned, tools, entries)
    path = cell if isinstance(cell, Path) else None

    def make() -> Made:
        where = planned.sample.where if path is None else planned.sample.at(path)
        return Made({column.kind: values_of(column, Cell(target, None if path else cell, path), where)})

    params = plain(column.plugin)
    ingredients = {
        "column": column.role,
        "params": params,
        "version": getattr(column.plugin, "version", 1),
        "content": cell if path is None else tools.raw.content(path),
        "target": [column.modality, *target.cells, *target.grid.scale, repr(target.rate)],
        **_told_start(target.start),
    }
    return Product(column.folder, {"column": ingredients}, "", make, column=spelled_params({column.role: params}))


def _target(column: Column, planned: Planned, tools: Tools, entries: Mapping[str, Entry]) -> Target:
    if column.modality == "audio":
        scale = _codec(tools.audio).scale
        modality = AudioModality(mel_frames=scale[0])
        return Target("audio", modality.grid_of((1, entries["audio_latents"].shape[1], 1)), modality.default_rate)
    scale, info = _codec(tools.video).scale, tools.raw.info(planned.sample.media["video"])
    rate = None if info.is_image or info.rate is None else float(info.rate)
    return Target("video", Grid(*planned.size.cells(scale), scale), rate, _start(planned, info))


def _stored_mask(path: Path, shape: tuple[int, ...]) -> Tensor:
    mask = read_mask(path).float()
    if tuple(mask.shape) != shape:
        wanted = " x ".join(map(str, shape))
        raise DataError(
            f"is a mask of {' x '.join(map(str, mask.shape))} values, but the sample has {wanted} latent cells",
            remedy="A mask must have one value per latent cell.",
        )
    return mask


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Make errors inside the block name the row and the file that they are about, not only the file."""
    try:
        yield
    except DataError as error:
        raise DataError.of(attrs.evolve(problem, where=where) for problem in error.problems) from error


def _codec(codec: Codec | None) -> Codec:
    if codec is None:
        raise ValueError("this folder needs a VAE that was not loaded")
    return codec


_RECIPES: Mapping[tuple[str, str], Callable[[Column, Planned, Tools, Mapping[str, Entry]], Product]] = {
    ("latents", "video"): _clip_latents,
    ("latents", "audio"): _sound_latents,
    ("pictures", "video"): _keyframes,
    ("mask", "video"): _video_mask,
    ("mask", "audio"): _audio_mask,
}
"""The way in which media are turned into data of a kind and a modality."""


def mask_alone(folder: str, planned: Planned, tools: Tools) -> Tensor:
    """Make a mask as in encoding, except that an audio mask keeps its own length, since the audio latents do not exist yet.

    Raises:
        DataError: the mask cannot be made.
    """
    column = tools.columns.by_folder[folder]
    if column.modality == "video":
        return product_of(folder, planned, tools, {}).make().tensors["mask"]
    path = planned.sample.media[column.role]
    if path.suffix.lower() in STORED_MASKS:
        return read_mask(path)
    scale = (4, 1, 1) if tools.audio is None else tools.audio.scale
    return _audio_mask_of(path, start_seconds(planned, tools), None, scale)
