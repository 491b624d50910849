"""`ltx decode`: encoded samples back to files that play, to look at what a run is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.load_codecs import TINY
from ltxcore.codecs.source import Model
from ltxcore.encode.progress import bars
from ltxcore.encoded.sample_names import find_sample, stored_name
from ltxcore.encoded.store import read_latents, read_mask, redo
from ltxcore.errors import ConfigError, DataError, LtxError, OutOfMemory, is_out_of_memory, listed
from ltxcore.memory import telling
from ltxcore.modalities.video import VideoModality
from ltxcore.prepare.encoded import VIDEO_LATENTS, Shelf, shelves, sound_folder
from ltxcore.prepare.work import Tally
from ltxcore.protocols import Clip, Codec
from ltxcore.sample.outputs import Played, decoded, decoders, write

ENDINGS = (".mp4", ".png", ".wav")
STEP_PIXELS = (8, 32)
"""Width and height of one latent step in the picture of a sound's mask."""


@attrs.frozen
class _Item:
    """One file to write.

    Attributes:
        files: encoded files by modality; of a mask the one that there is.
        mask: whether it is a mask.
        rate: frames per second of its pictures.
        place: where it goes, without ending.
    """

    files: Mapping[str, Path]
    mask: bool
    rate: float
    place: Path


def decode(
    root: Path,
    output: Path,
    sources: Sequence[str] = (),
    *,
    model: Model | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Tally:
    """Decode the samples of a data root to `output/FOLDER/NAME`, with the ending of what they are.

    Pictures are written with the sound that belongs to them (`latents` with `audio_latents`, `reference_latents` with `reference_audio_latents`), sounds
    that have no pictures alone. Masks become pictures, white where the sample is given. A file that is there already, and not older than what it is made
    from, is left as it is.

    Args:
        root: the data root, or the folder of the dataset that it belongs to.
        output: the folder to write to.
        sources: names of folders under the root; none: all.
        model: whose codecs to use; none: the tiny model's, if it made the samples.
        overwrite: whether to write also what is there.
        progress: whether to show a bar.

    Raises:
        DataError: there is nothing to look at.
        ConfigError: a source that is not there, or a model that did not make the samples.
        CheckpointError: the model's codecs cannot be read.
        OutOfMemory: memory ran out. What was written by then stays.
    """
    chosen, model = model is not None, model or Model(TINY)
    there, found, problems = shelves(root, sources)
    items = list(_items(there, found, output))
    wanted = {modality for item in items if not item.mask for modality in item.files}
    done = reused = 0
    with decoders(model, wanted) as codecs, bars(progress) as phase:
        _check_makers(there, found, codecs, chosen=chosen)
        step = phase("decode", len(items))
        for item in items:
            if not overwrite and _is_fresh(item):
                reused += 1
            else:
                try:
                    with telling(f"decoding {' and '.join(map(str, item.files.values()))}", model.device, partial(_less, model)):
                        _write(item, codecs)
                    done += 1
                except OutOfMemory:
                    raise
                except LtxError as error:
                    problems += error.at(" and ".join(map(str, item.files.values()))).problems
            step()
    return Tally(done, reused, tuple(problems))


def _items(root: Path, found: Sequence[Shelf], output: Path) -> Iterator[_Item]:
    by_name = {shelf.folder: shelf for shelf in found}
    paired: dict[str, set[str]] = {}
    for shelf in sorted(found, key=lambda each: each.modality != "video"):  # pictures first: they take their sounds with them
        sounds = by_name.get(sound_folder(shelf, by_name) or "")
        for name, entry in shelf.entries.items():
            if name in paired.get(shelf.folder, ()):
                continue
            files = {shelf.modality: find_sample(root, shelf.folder, name)}
            if sounds is not None and name in sounds.entries:
                files["audio"] = find_sample(root, sounds.folder, name)
                paired.setdefault(sounds.folder, set()).add(name)
            rate = entry.rate or _target_rate(by_name, name)
            place = output / shelf.folder / stored_name(name, max(map(len, ENDINGS)))
            yield _Item(files, shelf.kind == "mask", rate, place)


def _target_rate(by_name: Mapping[str, Shelf], name: str) -> float:
    """Frames per second of the clip that a mask belongs to; a stored clip that does not say has the usual rate."""
    entry = by_name[VIDEO_LATENTS].entries.get(name) if VIDEO_LATENTS in by_name else None
    return VideoModality().default_rate if entry is None or entry.rate is None else entry.rate


def _check_makers(root: Path, found: Sequence[Shelf], codecs: Mapping[str, Codec], *, chosen: bool) -> None:
    """Whether the samples are of these codecs, as far as they say; what their options were does not matter."""
    for shelf in found:
        if shelf.kind != "latents" or shelf.modality not in codecs:
            continue
        known = codecs[shelf.modality].fingerprint.partition("+")[0]
        # Samples of ltx-trainer do not say what made them: a model that was chosen is believed.
        other = [
            name for name, entry in shelf.entries.items() if entry.encoder.partition("+")[0] not in ((known, "") if chosen else (known,))
        ]
        if other:
            whose = "the model that --model-path names" if chosen else "the tiny model"
            raise ConfigError(
                f"the {shelf.modality} codec of {whose} did not make {listed(other)}",
                where=str(root / shelf.folder),
                remedy="Name the model that the samples were encoded with: --model-path MODEL.",
            )


def _less(model: Model) -> str:
    """What takes less memory."""
    tiled = "" if model.tiling else "--vae-tiling takes less. "
    return f"{tiled}What is decoded by now stays, and the same command goes on with the rest."


def _is_fresh(item: _Item) -> bool:
    made = [path for ending in ENDINGS if (path := item.place.with_name(item.place.name + ending)).is_file()]
    newest = max(path.stat().st_mtime_ns for path in item.files.values())
    return bool(made) and all(path.stat().st_mtime_ns >= newest for path in made)


def _write(item: _Item, codecs: Mapping[str, Codec]) -> None:
    if item.mask:
        (path,) = item.files.values()
        write(Played(picture_of(read_mask(path), item.rate)), item.place)
        return
    latents = {modality: _finite(path) for modality, path in item.files.items()}
    try:
        played = decoded(latents, dict.fromkeys(latents, item.rate), codecs)
    except RuntimeError as error:  # what torch raises for a shape that the codec does not have
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot be decoded: {reason}", remedy="See that --model-path names the model that encoded it.") from error
    write(played, item.place)


def _finite(path: Path) -> Tensor:
    latents, _ = read_latents(path)
    if not bool(latents.float().isfinite().all()):
        raise DataError("has values that are no numbers", where=str(path), remedy=redo(path))
    return latents


def picture_of(mask: Tensor, rate: float) -> Clip:
    """A stored mask as grey pictures, white is given: `[F, H, W]` as a clip whose pixels are as bright as their latent cell, `[T]` as a strip that runs from
    left to right."""
    levels = (mask.float() * 255).round().to(torch.uint8)
    if mask.ndim == 1:
        width, height = STEP_PIXELS
        strip = levels.repeat_interleave(width)[None].expand(height, -1)
        return Clip(strip[None, :, :, None].expand(-1, -1, -1, 3).contiguous(), rate)
    frames, rows, columns = VideoModality().scale
    cells = levels.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)
    cells = torch.cat([cells[:1], cells[1:].repeat_interleave(frames, dim=0)])
    return Clip(cells[..., None].expand(-1, -1, -1, 3).contiguous(), rate)
