"""Decode encoded samples to files that can be played, to check the data that a run trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

SEEN = ("latents", "mask", "pictures")
"""The kinds of data that can be seen or heard."""

ENDINGS = (".mp4", ".png", ".wav")
STEP_PIXELS = (8, 32)
"""The width and height of one latent step in the picture of an audio mask."""


@attrs.frozen
class _Item:
    """A file to write.

    Attributes:
        files: the encoded files by modality; only latents can have more than one.
        kind: the kind of the encoded data: "latents", "mask" or "pictures".
        rate: the frames per second of the video.
        scale: the pixel frames, rows and columns of a latent cell.
        place: the path of the file, without its extension.
    """

    files: Mapping[str, Path]
    kind: str
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
    """Decode the samples of a data root to files `output/FOLDER/NAME`, with the extension for their type.

    Video is written together with its audio (`latents` with `audio_latents`, `reference_latents` with `reference_audio_latents`). Audio
    without video gets a file of its own. Masks become pictures that are white where the sample is given. The keyframes of a clip become one
    picture, in which they are side by side. An existing file is kept, unless the encoded files are newer.

    Args:
        root: the data root, or the folder of its dataset.
        output: the folder to write to.
        sources: the names of folders under the root; empty for all folders.
        codecs: the codecs to decode with; None for those of the tiny model, if the tiny model made the samples.
        overwrite: whether to overwrite existing files.
        progress: whether to show a bar.

    Raises:
        DataError: there is nothing to decode.
        ConfigError: a source does not exist, or the model did not make the samples.
        CheckpointError: the model's codecs cannot be read.
        OutOfMemory: memory ran out; files that were already written are kept.
    """
    is_chosen, codecs = codecs is not None, codecs or Codecs("tiny")
    found = _seen(root, sources)
    items, problems = list(_items(found, output)), list(found.problems)
    wanted = {modality for item in items if item.kind != "mask" for modality in item.files}
    by_modality = {modality: codecs.video() if modality == "video" else codecs.audio() for modality in sorted(wanted)}
    decoders = {modality: codec.decode for modality, codec in by_modality.items()}
    done = reused = 0
    with bars(progress) as phase:
        check_makers(found, {modality: codec.fingerprint for modality, codec in by_modality.items()}, chosen=is_chosen)
        step = phase("decode", len(items))
        for item in items:
            if not overwrite and _is_fresh(item):
                reused += 1
            else:
                files = " and ".join(map(str, item.files.values()))
                with telling(f"decoding {files}", codecs.device, partial(less_memory, codecs.tiling)):
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
        DataError: the root does not exist, or nothing in it can be seen or heard.
        ConfigError: a source does not exist, or holds text.
    """
    found = list_encoded(root, sources)
    seen = tuple(folder for folder in found.folders if folder.kind in SEEN)
    unseen = [folder.name for folder in found.folders if folder.kind not in SEEN and folder.name in sources]
    if unseen:
        raise ConfigError(f'the folder "{unseen[0]}" holds data that cannot be seen or heard', where=str(found.root))
    if not seen and not found.problems:
        raise DataError("holds no latents and no masks", where=str(found.root), remedy="Name the folder that `ltx preprocess` wrote to.")
    return attrs.evolve(found, folders=seen)


def _items(found: EncodedSet, output: Path) -> Iterator[_Item]:
    by_name = {folder.name: folder for folder in found.folders}
    paired: dict[str, set[str]] = {}
    for folder in sorted(found.folders, key=lambda each: each.modality != "video"):  # video first, since its audio is decoded with it
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
            yield _Item(files, folder.kind, found.rate(folder, name), found.video_scale, place)


def check_makers(found: EncodedSet, fingerprints: Mapping[str, str], *, chosen: bool) -> None:
    """Check that the samples were made by these codecs, as far as the samples record it. The options of the codecs do
    not matter.
    """
    for folder in found.folders:
        if folder.kind == "mask" or folder.modality not in fingerprints:
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


def less_memory(tiling: bool) -> str:
    """Suggest how to use less memory."""
    tiled = "" if tiling else "--vae-tiling needs less memory. "
    return f"{tiled}What was decoded so far is kept; run the same command again to do the rest."


def _is_fresh(item: _Item) -> bool:
    made = [path for ending in ENDINGS if (path := item.place.with_name(item.place.name + ending)).is_file()]
    newest = max(path.stat().st_mtime_ns for path in item.files.values())
    return bool(made) and all(path.stat().st_mtime_ns >= newest for path in made)


def _write(item: _Item, decoders: Mapping[str, Callable[[Tensor, float], Any]]) -> None:
    if item.kind == "mask":
        (path,) = item.files.values()
        write_media(item.place, picture_of(read_sample(path, "mask")["mask"], item.rate, item.scale))
        return
    decoded: dict[str, Any]
    with decoding():
        if item.kind == "pictures":
            (path,) = item.files.values()
            frames = [decoders["video"](picture, item.rate).frames for picture in read_sample(path, "pictures")["pictures"]]
            decoded = {"video": Clip(side_by_side(frames), item.rate)}
        else:
            latents = {modality: read_sample(path, "latents")["latents"] for modality, path in item.files.items()}
            decoded = {modality: decoders[modality](tensor, item.rate) for modality, tensor in latents.items()}
    write_media(item.place, decoded.get("video"), decoded.get("audio"))


@contextmanager
def decoding() -> Iterator[None]:
    """Raise a DataError for latents of a shape that the codec does not support, for which torch raises a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise DataError(
            f"cannot be decoded: {reason}", remedy="Check that --model-path names the model that encoded the sample."
        ) from error


def side_by_side(frames: Sequence[Tensor]) -> Tensor:
    """Join pictures `[1, H, W, 3]` into one, from left to right."""
    import torch

    return torch.cat(list(frames), dim=2)


def picture_of(mask: Tensor, rate: float, scale: tuple[int, int, int]) -> Clip:
    """Draw a stored mask in gray, with white where the sample is given. A mask `[F, H, W]` becomes a clip in which the
    brightness of a pixel shows the mask in its latent cell; a mask `[T]` becomes a strip from left to right.
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
