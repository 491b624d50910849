"""What samples will be like once encoded, so that a strategy can be checked against them before hours of encoding.

What draws the samples of a run: whether its codecs and its text encoder can be had, known from headers.
"""

from __future__ import annotations

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.sample_sizes import Planned
from ltxcore.encode.survey import Survey
from ltxcore.encode.work import TEXT
from ltxcore.errors import ConfigError, DataError, Problem, collecting
from ltxcore.protocols import Entry, Manifest
from ltxcore.runs.run_plan import Outline
from ltxcore.sample.cuts import samples_in, steps_of

MELS = 16
"""The last dimension of audio latents; a token has as many numbers for each of their channels."""


def foreseen(found: Outline, seen: Survey) -> Manifest:
    """The samples that were looked at as they will be encoded, with shapes and rates; without those of which headers do not tell that."""
    sources = found.strategy.sources()
    entries: dict[str, dict[str, Entry]] = {role: {} for role in sources}
    for planned in seen.planned if seen.has_sizes else ():
        name = planned.sample.name
        try:
            known = {role: _entry(source.folder, planned, found, seen) for role, source in sources.items()}
        except DataError:  # a file that cannot be read, which is told elsewhere
            continue
        if name not in seen.unfit and None not in known.values():
            for role, entry in known.items():
                if entry is not None:
                    entries[role][name] = entry
    return Manifest(entries)


def _entry(folder: str, planned: Planned, found: Outline, seen: Survey) -> Entry | None:
    """Foresee the manifest entry of a sample in a folder; None if it is not known."""
    widths, tools, bucket = found.base.token_widths, seen.encoding.tools, planned.bucket
    if folder == TEXT:
        return Entry(() if seen.encoding.text is None else (seen.encoding.text.length,), kind="text")
    if folder in ("latents", "video_masks", "reference_latents") and bucket is not None and tools.video is not None:
        if folder == "video_masks":
            return Entry(bucket.cells(tools.video.scale), kind="mask", modality="video")
        size, rate = _size(folder, bucket, planned, seen)
        return Entry((widths["video"], *size.cells(tools.video.scale)), rate, kind="latents", modality="video")
    # How long other sounds are is known exactly only once they are decoded.
    if folder in ("audio_latents", "audio_masks") and planned.duration is not None and tools.audio is not None:
        steps = steps_of(samples_in(planned.duration), tools.audio.scale)
        if folder == "audio_masks":
            return Entry((steps,), kind="mask", modality="audio")
        return Entry((widths["audio"] // MELS, steps, MELS), kind="latents", modality="audio")
    return None


def _size(folder: str, bucket: Bucket, planned: Planned, seen: Survey) -> tuple[Bucket, float | None]:
    """Pixels and frames of a clip or its reference as they are encoded, and frames per second.

    Source: docs/explanation/arithmetic.md#cover-and-crop, #every-n-th-frame
    """
    is_target = folder == "latents"
    info = seen.encoding.tools.raw.info(planned.sample.media["video" if is_target else "reference_video"])
    size = bucket if is_target else seen.encoding.tools.factors.of(bucket)
    if info.is_image or info.rate is None:
        return attrs.evolve(size, frames=1), None
    return size, float(info.rate) / (1 if is_target else seen.encoding.tools.factors.temporal)


def drawing_problems(found: Outline) -> tuple[Problem, ...]:
    """Find why the samples of `[validation]`, or without any held-out clips, cannot be generated. Missing VAEs stop no
    run that names no samples.
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
