"""The properties that samples will have once they are encoded, so that a strategy can be checked against them before
hours of encoding.

It also checks, from headers, whether the codecs and the text encoder that a run generates samples with are available.
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
"""The last dimension of audio latents; an audio token has this many numbers for each channel."""


def foreseen(found: Outline, seen: Survey) -> Manifest:
    """Return a manifest of the samples that were looked at, with the shapes and rates that they will have once encoded;
    samples are left out if headers do not tell.
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
    """Foresee the manifest entry of a sample in a folder; None if it is not known."""
    widths, tools, bucket = found.base.token_widths, seen.encoding.tools, planned.bucket
    if folder == TEXT:
        return Entry(() if seen.encoding.text is None else (seen.encoding.text.length,), kind="text")
    if folder in ("latents", "video_masks", "reference_latents") and bucket is not None and tools.video is not None:
        if folder == "video_masks":
            return Entry(bucket.cells(tools.video.scale), kind="mask", modality="video")
        size, rate = _size(folder, bucket, planned, seen)
        return Entry((widths["video"], *size.cells(tools.video.scale)), rate, kind="latents", modality="video")
    # The exact length of other audio is known only once it is decoded.
    if folder in ("audio_latents", "audio_masks") and planned.duration is not None and tools.audio is not None:
        steps = steps_of(samples_in(planned.duration), tools.audio.scale)
        if folder == "audio_masks":
            return Entry((steps,), kind="mask", modality="audio")
        return Entry((widths["audio"] // MELS, steps, MELS), kind="latents", modality="audio")
    return None


def _size(folder: str, bucket: Bucket, planned: Planned, seen: Survey) -> tuple[Bucket, float | None]:
    """Return the pixels and frames of a clip or its reference as encoded, and the frames per second.

    Source: docs/explanation/arithmetic.md#cover-and-crop, #every-n-th-frame
    """
    is_target = folder == "latents"
    info = seen.encoding.tools.raw.info(planned.sample.media["video" if is_target else "reference_video"])
    size = bucket if is_target else seen.encoding.tools.factors.of(bucket)
    if info.is_image or info.rate is None:
        return attrs.evolve(size, frames=1), None
    return size, float(info.rate) / (1 if is_target else seen.encoding.tools.factors.temporal)


def drawing_problems(found: Outline) -> tuple[Problem, ...]:
    """Find why the samples of `[validation]`, or those of held-out clips if it has none, cannot be generated. A run
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
