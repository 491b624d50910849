"""A contact sheet of an encoded set: some samples of each size, with the used part of their clips, their decoded frames and audio, and
their captions.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import DataError, Entry, LtxError, Problem
from ltxcore.api.commands import bars, telling, write_whole
from ltxcore.api.dataset import PreprocessingTable, Sample, survey_dataset
from ltxcore.api.encoded import EncodedSet, list_encoded, read_sample
from ltxcore.api.media import probe, read_clip
from ltxcore.api.models import Codecs
from ltxplugins.tools.decode.decode import check_makers, decoding, less_memory
from ltxplugins.tools.decode.draw_sheet import Card, Section, draw

if TYPE_CHECKING:
    from torch import Tensor

FOLDERS = {"latents": "video", "audio_latents": "audio"}
"""The folders that are shown, with the modality of their latents."""

CARDS, MOST = 24, 4
"""The largest number of samples on a sheet (more only if there are more sizes), and the largest number of samples of one size."""

WINDOW = re.compile(r"(.+?)@+([0-9]{6,})")
"""The name of a window of a clip: the clip's name, and the frame that the window begins with."""

RESAMPLED = 1e-3
"""The share by which a sample's frame rate may differ from the rate that its clip is resampled to, because it was rounded."""

PRECOMPUTED = ".precomputed"


@attrs.frozen
class _Latents:
    """The latents of a modality: their entries, and functions that return the file of a sample and its frames per second."""

    entries: Mapping[str, Entry]
    file: Callable[[str], Path]
    rate: Callable[[str], float]


def write_sheet(
    path: Path, root: Path, data: Path | None, codecs: Codecs | None, *, progress: bool = True
) -> tuple[int, tuple[Problem, ...]]:
    """Write a contact sheet as a page, and return the number of samples on it and the problems of samples that it lacks.

    Args:
        path: the file to write.
        root: the data root, or the folder of its dataset.
        data: the dataset that the samples were encoded from; None for the one whose samples are in the root by default, if there is one.
        codecs: the codecs to decode with; None for those of the tiny model, if the tiny model made the samples.
        progress: whether to show a bar.

    Raises:
        DataError: there is nothing to show, no sample can be decoded, or the file cannot be written.
        ConfigError: the model did not make the samples.
        OutOfMemory: memory ran out.
    """
    is_chosen, codecs = codecs is not None, codecs or Codecs("tiny")
    found = list_encoded(root)
    problems = list(found.problems)
    found = attrs.evolve(found, folders=tuple(folder for folder in found.folders if folder.name in FOLDERS))
    if not found.folders:
        nothing = Problem("holds no latents of clips or sounds", str(found.root), "Name the folder that `ltx preprocess` wrote to.")
        raise DataError.of(problems or [nothing])
    latents = {FOLDERS[each.name]: _Latents(each.entries, each.file, partial(found.rate, each)) for each in found.folders}
    by_modality = {modality: codecs.video() if modality == "video" else codecs.audio() for modality in latents}
    check_makers(found, {modality: codec.fingerprint for modality, codec in by_modality.items()}, chosen=is_chosen)
    rows = rows_of(found.root, data)
    groups = _groups(found, latents)
    each = max(1, min(MOST, CARDS // len(groups)))
    sections = []
    with bars(progress) as phase:
        step = phase("decode", sum(min(each, len(names)) for names in groups.values()))
        for size, names in sorted(groups.items(), key=lambda group: -len(group[1])):
            cards = []
            for name in _spread(names, each):
                with telling(f"decoding {name}", codecs.device, lambda: less_memory(codecs.tiling)):
                    try:
                        cards.append(_card(name, latents, {key: codec.decode for key, codec in by_modality.items()}, rows))
                    except LtxError as error:
                        problems += error.problems
                step()
            sections.append(Section(size, len(names), tuple(cards)))
    count = sum(len(section.cards) for section in sections)
    if not count:
        raise DataError.of(problems)
    try:
        write_whole(path, draw(found.root, sections).encode())
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another file.") from error
    return count, tuple(problems)


def rows_of(root: Path, data: Path | None) -> Mapping[str, Sample]:
    """Return the rows of the dataset that a root was encoded from, by the names of their samples; empty if it is not known."""
    found: dict[str, Sample] = {}
    for dataset in [data] if data is not None else _datasets(root):
        try:
            samples = survey_dataset(dataset, PreprocessingTable())[0].samples
        except LtxError:
            if data is not None:
                raise
            continue  # its columns have other names, which only its own options say
        found |= {sample.name: sample for sample in samples}
    return found


def _datasets(root: Path) -> Iterator[Path]:
    """Yield the datasets beside a root whose samples are encoded in it by default."""
    from ltxcore.api.dataset import data_kind, default_root

    root = root.absolute()
    folder = root.parent / root.name.removesuffix(PRECOMPUTED)  # for the root of a dataset file, the folder that it is in
    for path in [folder] if root.name.endswith(PRECOMPUTED) and folder != root.parent else sorted(root.parent.iterdir()):
        try:
            if (path == folder or path.is_file()) and data_kind(path) == "dataset" and default_root(path) == root:
                yield path
        except DataError:  # it does not exist, or is something else
            continue


def _groups(found: EncodedSet, latents: Mapping[str, _Latents]) -> dict[str, list[str]]:
    """Return the names of the samples of each size, in the form in which buckets are written; "" for audio without video."""
    entries = {modality: each.entries for modality, each in latents.items()}
    frames, rows, columns = found.video_scale
    groups: dict[str, list[str]] = {}
    for name, entry in entries.get("video", {}).items():
        _, length, height, width = entry.shape
        groups.setdefault(f"{width * columns}x{height * rows}x{(length - 1) * frames + 1}", []).append(name)
    alone = [name for name in entries.get("audio", {}) if name not in entries.get("video", {})]
    return {**groups, "": alone} if alone else groups


def _spread(names: Sequence[str], most: int) -> list[str]:
    """Return all names or, if there are more than `most`, evenly spread ones."""
    count = min(most, len(names))
    return [names[index * (len(names) - 1) // max(1, count - 1)] for index in range(count)]


def _card(
    name: str, latents: Mapping[str, _Latents], decoders: Mapping[str, Callable[[Tensor, float], Any]], rows: Mapping[str, Sample]
) -> Card:
    """Decode a sample, and read the frame of its clip that it begins with."""
    medium: dict[str, Any] = {}
    rate = latents["video"].rate(name) if "video" in latents and name in latents["video"].entries else 1.0
    for modality in (each for each, of in latents.items() if name in of.entries):
        file = latents[modality].file(name)
        try:
            with decoding():
                medium[modality] = decoders[modality](read_sample(file, "latents")["latents"], rate)
        except LtxError as error:
            raise error.at(str(file)) from None
    window = WINDOW.fullmatch(name) if name not in rows else None
    row = rows.get(window[1] if window else name)
    original, seconds = _original(row, int(window[2]) if window else 0, rate) if row is not None else (None, 0.0)
    clip, sound = medium.get("video"), medium.get("audio")
    return Card(
        name,
        None if row is None else row.caption,
        None if clip is None else clip.frames,
        rate,
        original,
        seconds,
        None if sound is None else sound.samples,
        0 if sound is None else sound.rate,
    )


def _original(row: Sample, start: int, rate: float) -> tuple[Tensor | None, float]:
    """Return the frame of a row's clip that a sample begins with, and the duration of the clip in seconds; None and 0 if the clip can no
    longer be read.

    Args:
        row: the row.
        start: the number of that frame, counted at the sample's own frame rate.
        rate: the sample's frame rate.
    """
    from ltxcore.api.media import frame_seconds

    path = row.media.get("video", row.media.get("audio"))
    if path is None:
        return None, 0.0
    try:
        info = probe(path)
        uneven = info.uneven
        if start and uneven is not None and abs(rate / float(uneven.resampled_rate) - 1) < RESAMPLED:
            start = bisect(frame_seconds(path, uneven.frames), start / rate) - 1
        frame = read_clip(path, start=start, max_frames=1).frames[0] if info.frames else None
    except DataError:
        return None, 0.0
    return frame, info.duration or 0.0
