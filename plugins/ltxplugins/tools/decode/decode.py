"""Decoding of encoded samples to files that can be played, to check what a run is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import Clip, ConfigError, DataError, LtxError
from ltxcore.api.commands import bars, fitted, is_out_of_memory, listed, telling
from ltxcore.api.encoded import EncodedSet, list_encoded, read_sample
from ltxcore.api.media import write_media
from ltxcore.api.models import Codecs
from ltxplugins.tools.work import Tally

if TYPE_CHECKING:
    from torch import Tensor

SEEN = ("latents", "mask")
"""The kinds of samples that can be seen or heard."""

ENDINGS = (".mp4", ".png", ".wav")
STEP_PIXELS = (8, 32)
"""The width and height of one latent step in the picture of an audio mask."""


@attrs.frozen
class _Item:
    """A file to write.

    Attributes:
        files: the encoded files by modality; a mask has one.
        mask: whether it is a mask.
        rate: the frames per second of its video.
        scale: the pixel frames, rows and columns of a latent cell.
        place: the path of the file, without extension.
    """

    files: Mapping[str, Path]
    mask: bool
    rate: float
    scale: tuple[int, int, int]
    place: Path


def decode(
    root: Path,
    output: Path,
    sources: Sequence[str] = (),
    *,
    codecs: Codecs | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Tally:
    """Decode the samples of a data root to `output/FOLDER/NAME`, with the extension for their type.

    Video is written with the audio that belongs to it (`latents` with `audio_latents`, `reference_latents` with
    `reference_audio_latents`), audio without video alone. Masks become pictures, white where the sample is given. A
    file that exists already, and is not older than what it is made from, is left as it is.

    Args:
        root: the data root, or the folder of the dataset that it belongs to.
        output: the folder to write to.
        sources: the names of folders under the root; all if empty.
        codecs: the codecs to decode with; None means the tiny model's, if it made the samples.
        overwrite: whether to overwrite existing files.
        progress: whether to show a bar.

    Raises:
        DataError: there is nothing to decode.
        ConfigError: a source does not exist, or the model did not make the samples.
        CheckpointError: the model's codecs cannot be read.
        OutOfMemory: memory ran out. What was written by then is kept.
    """
    is_chosen, codecs = codecs is not None, codecs or Codecs("tiny")
    found = _seen(root, sources)
    items, problems = list(_items(found, output)), list(found.problems)
    wanted = {modality for item in items if not item.mask for modality in item.files}
    by_modality = {modality: codecs.video() if modality == "video" else codecs.audio() for modality in sorted(wanted)}
    decoders = {modality: codec.decode for modality, codec in by_modality.items()}
    done = reused = 0
    with bars(progress) as phase:
        _check_makers(found, {modality: codec.fingerprint for modality, codec in by_modality.items()}, chosen=is_chosen)
        step = phase("decode", len(items))
        for item in items:
            if not overwrite and _is_fresh(item):
                reused += 1
            else:
                files = " and ".join(map(str, item.files.values()))
                with telling(f"decoding {files}", codecs.device, partial(_less, codecs.tiling)):
                    try:
                        _write(item, decoders)
                        done += 1
                    except LtxError as error:
                        problems += error.at(files).problems
            step()
    return Tally(done, reused, tuple(problems))


def _seen(root: Path, sources: Sequence[str]) -> EncodedSet:
    """Return the folders of an encoded set whose samples can be seen or heard.

    Raises:
        DataError: there is no such folder, or nothing in it can be seen or heard.
        ConfigError: a source does not exist, or holds text.
    """
    found = list_encoded(root, sources)
    seen = tuple(folder for folder in found.folders if folder.kind in SEEN)
    unseen = [folder.name for folder in found.folders if folder.kind not in SEEN and folder.name in sources]
    if unseen:
        raise ConfigError(f'its folder "{unseen[0]}" holds text features, which cannot be decoded', where=str(found.root))
    if not seen and not found.problems:
        raise DataError("holds no latents and no masks", where=str(found.root), remedy="Name the folder that `ltx preprocess` wrote to.")
    return attrs.evolve(found, folders=seen)


def _items(found: EncodedSet, output: Path) -> Iterator[_Item]:
    by_name = {folder.name: folder for folder in found.folders}
    paired: dict[str, set[str]] = {}
    for folder in sorted(found.folders, key=lambda each: each.modality != "video"):  # video first, since it takes its audio with it
        sounds = by_name.get(folder.sounds_among(by_name) or "")
        for name in folder.entries:
            if name in paired.get(folder.name, ()):
                continue
            files = {folder.modality: folder.file(name)}
            if sounds is not None and name in sounds.entries:
                files["audio"] = sounds.file(name)
                paired.setdefault(sounds.name, set()).add(name)
            *parents, last = name.split("/")
            place = output.joinpath(folder.name, *map(fitted, parents), fitted(last, max(map(len, ENDINGS))))
            yield _Item(files, folder.kind == "mask", found.rate(folder, name), found.video_scale, place)


def _check_makers(found: EncodedSet, fingerprints: Mapping[str, str], *, chosen: bool) -> None:
    """Check that the samples were made by these codecs, as far as they record it; the options of the codecs do not matter."""
    for folder in found.folders:
        if folder.kind != "latents" or folder.modality not in fingerprints:
            continue
        known = fingerprints[folder.modality].partition("+")[0]
        # ltx-trainer's samples do not record what made them, so the chosen model is trusted.
        other = [
            name for name, entry in folder.entries.items() if entry.encoder.partition("+")[0] not in ((known, "") if chosen else (known,))
        ]
        if other:
            whose = "the model that --model-path names" if chosen else "the tiny model"
            raise ConfigError(
                f"the {folder.modality} VAE of {whose} did not make {listed(other)}",
                where=str(folder.path),
                remedy="Name the model that the samples were encoded with: --model-path MODEL.",
            )


def _less(tiling: bool) -> str:
    """Suggest what would take less memory."""
    tiled = "" if tiling else "--vae-tiling needs less memory. "
    return f"{tiled}What was decoded so far is kept; run the same command again to do the rest."


def _is_fresh(item: _Item) -> bool:
    made = [path for ending in ENDINGS if (path := item.place.with_name(item.place.name + ending)).is_file()]
    newest = max(path.stat().st_mtime_ns for path in item.files.values())
    return bool(made) and all(path.stat().st_mtime_ns >= newest for path in made)


def _write(item: _Item, decoders: Mapping[str, Callable[[Tensor, float], Any]]) -> None:
    if item.mask:
        (path,) = item.files.values()
        write_media(item.place, picture_of(read_sample(path, "mask")["mask"], item.rate, item.scale))
        return
    latents = {modality: read_sample(path, "latents")["latents"] for modality, path in item.files.items()}
    try:
        decoded = {modality: decoders[modality](tensor, item.rate) for modality, tensor in latents.items()}
    except RuntimeError as error:  # what torch raises for a shape that the codec does not support
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot be decoded: {reason}", remedy="Check that --model-path names the model that encoded it.") from error
    write_media(item.place, decoded.get("video"), decoded.get("audio"))


def picture_of(mask: Tensor, rate: float, scale: tuple[int, int, int]) -> Clip:
    """Draw a stored mask in gray, white where the sample is given: `[F, H, W]` as a clip in which each pixel is as
    bright as the mask in its latent cell, `[T]` as a strip that runs from left to right.
    """
    import torch

    levels = (mask.float() * 255).round().to(torch.uint8)
    if mask.ndim == 1:
        width, height = STEP_PIXELS
        strip = levels.repeat_interleave(width)[None].expand(height, -1)
        return Clip(strip[None, :, :, None].expand(-1, -1, -1, 3).contiguous(), rate)
    frames, rows, columns = scale
    cells = levels.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)
    cells = torch.cat([cells[:1], cells[1:].repeat_interleave(frames, dim=0)])
    return Clip(cells[..., None].expand(-1, -1, -1, 3).contiguous(), rate)
