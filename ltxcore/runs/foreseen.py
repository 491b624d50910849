"""The properties that samples will have once they are encoded, so that a strategy can be checked before hours of encoding.

The module also checks, from headers, whether the codecs and the text encoder for generating samples are available.
"""

from __future__ import annotations

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.columns import resolved
from ltxcore.dataset.columns import Column
from ltxcore.encode.buckets import Bucket, ReferenceFactors
from ltxcore.encode.candidates import candidate_count
from ltxcore.encode.sample_sizes import Planned
from ltxcore.encode.survey import Survey
from ltxcore.encode.work import TEXT
from ltxcore.errors import ConfigError, DataError, Problem, collecting
from ltxcore.protocols import Entry, Manifest
from ltxcore.runs.run_plan import Outline
from ltxcore.sample.cuts import samples_in, steps_of

MELS = 16
"""The last dimension of audio latents; an audio token has this many numbers for each channel."""


def foreseen(found: Outline, seen: Survey) -> Manifest:
    """Return a manifest of the examined samples, with the shapes and rates that they will have once encoded. Samples are left out
    if the headers do not determine their shapes.
    """
    sources = found.strategy.sources()
    entries: dict[str, dict[str, Entry]] = {role: {} for role in sources}
    for planned in seen.planned if seen.has_sizes else ():
        name = planned.sample.name
        try:
            known = {role: _entry(source.folder, planned, found, seen) for role, source in sources.items()}
        except DataError:  # a file that cannot be read, which is reported elsewhere
            continue
        if name not in seen.unfit and None not in known.values():
            for role, entry in known.items():
                if entry is not None:
                    entries[role][name] = entry
    return Manifest(entries)


def _entry(folder: str, planned: Planned, found: Outline, seen: Survey) -> Entry | None:
    """Return the future manifest entry of a sample in a folder; None if it cannot be known yet."""
    widths, tools, bucket = found.base.token_widths, seen.encoding.tools, planned.bucket
    if folder == TEXT:
        return Entry(() if seen.encoding.text is None else (seen.encoding.text.length,), kind="text")
    column = tools.columns.by_folder.get(folder)
    if column is not None and column.modality == "video" and bucket is not None and tools.video is not None:
        if column.kind == "pictures":
            count, cells = candidate_count(seen.encoding.options, bucket.frames), bucket.cells(tools.video.scale)
            return Entry((count, widths["video"], 1, *cells[1:]), kind="pictures", modality="video")
        if column.kind != "latents":
            return _of_cells(column, bucket.cells(tools.video.scale))
        size, rate = _size(column, bucket, planned, seen)
        return Entry((widths["video"], *size.cells(tools.video.scale)), rate, kind="latents", modality="video")
    # The exact length of other audio is known only once it is decoded.
    if column is not None and column.modality == "audio" and planned.duration is not None and tools.audio is not None:
        steps = steps_of(samples_in(planned.duration), tools.audio.scale)
        if column.kind != "latents":
            return _of_cells(column, (steps,))
        if column.is_target:
            return Entry((widths["audio"] // MELS, steps, MELS), kind="latents", modality="audio")
    return None


def _of_cells(column: Column, cells: tuple[int, ...]) -> Entry:
    """Return the manifest entry that a mask or values for latents of these dimensions will have."""
    if column.kind == "mask":
        return Entry(cells, kind="mask", modality=column.modality)
    return Entry(resolved(column.plugin.shape, cells), kind="values")


def _size(column: Column, bucket: Bucket, planned: Planned, seen: Survey) -> tuple[Bucket, float | None]:
    """Return the pixels, frames and frames per second with which a clip or its reference will be encoded.

    Source: docs/explanation/arithmetic.md#cover-and-crop, #every-n-th-frame
    """
    info, factors = seen.encoding.tools.raw.info(planned.sample.media[column.role]), ReferenceFactors.of_column(column)
    size = factors.of(bucket)
    if info.is_image or info.rate is None:
        return attrs.evolve(size, frames=1), None
    return size, float(info.rate) / factors.temporal


def drawing_problems(found: Outline) -> tuple[Problem, ...]:
    """Find reasons why the samples of `[validation]` or, if it has none, generations of held-out clips cannot be made. A run
    that names no samples is not stopped by missing VAEs.
    """
    codecs = Codecs.of(found.config.model, device="cpu")
    names = found.modalities.union(*(sample.canvas.request.modalities for sample in found.samples))
    wanted = [codecs.video] if "video" in names else []
    makers = [*wanted, *([codecs.audio] if "audio" in names else []), *([codecs.text] if found.samples else [])]
    problems: list[Problem] = []
    for make in makers:
        mine: list[Problem] = []
        with collecting(mine):
            try:
                make()
            except ConfigError:
                if found.samples:
                    raise
        problems += mine
    return tuple(dict.fromkeys(problems))
