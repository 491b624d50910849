"""The size and length of every sample, and those that cannot be made, found before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.codecs.media import MediaInfo
from ltxcore.errors import DataError, Problem
from ltxcore.modalities.audio import AudioModality
from ltxcore.preprocess.buckets import Bucket, ReferenceFactors, choose
from ltxcore.preprocess.rows import Sample
from ltxcore.preprocess.sounds import longest_fitting

STORED_MASKS = frozenset({".safetensors", ".pt"})
"""Masks that are already one value a latent cell."""

PICTURES = frozenset({"video", "reference_video", "video_mask"})
SOUNDS = frozenset({"audio", "reference_audio", "audio_mask"})
SOUND_FOLDERS = frozenset({"audio_latents", "reference_audio_latents", "audio_masks"})

Looked = Mapping[Path, MediaInfo | DataError]
"""What each file holds, or why it cannot be read."""


@attrs.frozen
class Planned:
    """A sample that can be made.

    Attributes:
        sample: the row.
        bucket: that its clip goes to; none: it has no clip, or its clip is only listened to.
        duration: seconds of sound; none: all that its file has.
        lengths: seconds that a mask of its sound may have: what is used of the sound, and all there is of it.
    """

    sample: Sample
    bucket: Bucket | None
    duration: Fraction | None
    lengths: tuple[float, ...] = ()

    @property
    def size(self) -> Bucket:
        """Its bucket, where it has one."""
        if self.bucket is None:
            raise ValueError(f"{self.sample.where} has no bucket")
        return self.bucket


@attrs.frozen(eq=False)
class Rules:
    """What samples are planned by.

    Attributes:
        folders: to be made.
        buckets: that clips are fitted to; empty: only sounds are made.
        durations: seconds that sounds without a clip are cut to; empty: not at all.
        factors: of references.
        audio_scale: of the audio codec; its first number is the mel frames in a latent step.
    """

    folders: frozenset[str]
    buckets: tuple[Bucket, ...] = ()
    durations: tuple[float, ...] = ()
    factors: ReferenceFactors = attrs.field(factory=ReferenceFactors)
    audio_scale: Sequence[int] = (4, 1, 1)


def look_at(samples: Sequence[Sample], info: Callable[[Path], MediaInfo], workers: int, step: Callable[[], None]) -> Looked:
    """What every file of the samples holds.

    Args:
        samples: the rows.
        info: looks at one file.
        workers: threads.
        step: called after each file.
    """

    def look(path: Path) -> MediaInfo | DataError:
        try:
            return info(path)
        except DataError as error:
            return error
        finally:
            step()

    paths = files_of(samples)
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(paths, pool.map(look, paths), strict=True))


def files_of(samples: Sequence[Sample]) -> list[Path]:
    """The media files of some samples, each once."""
    return list(dict.fromkeys(path for sample in samples for path in sample.media.values() if path.suffix.lower() not in STORED_MASKS))


def plan(sample: Sample, looked: Looked, rules: Rules) -> Planned | list[Problem]:
    """The size and length of a sample, or all that stands in its way."""
    found = {role: looked[path] for role, path in sample.media.items() if path in looked}
    infos = {role: info for role, info in found.items() if isinstance(info, MediaInfo)}
    problems = [*unreadable(sample, looked), *_wrong_media(sample, infos, rules)]
    if problems:
        return problems
    planned = _beside_clip(sample, infos, rules) if rules.buckets else _alone(sample, infos, rules)
    if isinstance(planned, Problem):
        return [planned]
    return [*_reference_misfits(planned, infos, rules), *_mask_misfits(planned, infos, rules)] or planned


def unreadable(sample: Sample, looked: Looked) -> Iterator[Problem]:
    """The files of a sample that cannot be read."""
    for path in sample.media.values():
        found = looked.get(path)
        if isinstance(found, DataError):
            yield from (attrs.evolve(problem, where=sample.at(path)) for problem in found.problems)


def _wrong_media(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Files that lack the pictures or the sound that their column is for."""
    for role, info in infos.items():
        where = sample.at(info.path)
        if role in PICTURES and info.frames is None and (role != "video" or rules.buckets):
            yield Problem("has no pictures", where, "Name a clip or an image.")
        if role in SOUNDS and info.sound_rate is None:
            yield Problem("has no sound", where, "Name a file with sound.")
    clip = infos.get("video")
    if clip is None or not rules.folders & SOUND_FOLDERS:
        return
    where = sample.at(clip.path)
    if clip.is_image:
        yield Problem("is an image, which has no duration and no sound", where, 'Set skip_audio, or leave it out with on_error = "skip".')
    elif "audio" not in infos and clip.sound_rate is None:
        yield Problem("has no sound", where, 'Set skip_audio, name a sound in a column "audio", or leave it out with on_error = "skip".')


def _beside_clip(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Planned | Problem:
    clip = infos["video"]
    frames, height, width = clip.frames or 0, clip.height or 0, clip.width or 0
    bucket = choose(rules.buckets, width, height, frames, clip.is_image)
    if bucket is None and clip.is_image:
        return Problem("is an image, and no bucket has one frame", sample.at(clip.path), f'Add a bucket such as "{width}x{height}x1".')
    if bucket is None:
        shortest = min(bucket.frames for bucket in rules.buckets)
        remedy = 'Add a shorter bucket, or leave it out with on_error = "skip".'
        return Problem(f"has {frames} frames, but the shortest bucket has {shortest}", sample.at(clip.path), remedy)
    duration = bucket.frames / clip.rate if clip.rate else None
    there = infos.get("audio", clip).duration
    return Planned(sample, bucket, duration, tuple(float(length) for length in (duration, there) if length is not None))


def _alone(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Planned | Problem:
    info = infos.get("audio", infos.get("video"))
    length = None if info is None else info.duration
    if info is None or length is None or not rules.durations:
        return Planned(sample, None, None, () if length is None else (length,))
    duration = longest_fitting(rules.durations, length)
    if duration is None:
        shortest = min(rules.durations)
        remedy = 'Add a shorter one, or leave it out with on_error = "skip".'
        return Problem(f"lasts {length:.3f} s, but the shortest of audio_durations is {shortest:g} s", sample.at(info.path), remedy)
    return Planned(sample, None, duration, (float(duration), length))


def _reference_misfits(planned: Planned, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """References that are too short, or whose frames lie at other times than those of their clip.

    Source: design section 4, "Positions": a temporal factor counts only where the rates tell of it.
    """
    reference = infos.get("reference_video")
    if reference is None or reference.is_image:
        return
    where, needed = planned.sample.at(reference.path), planned.size.frames
    if (reference.frames or 0) < needed:
        yield Problem(
            f"has {reference.frames} frames, but its clip has {needed} in the bucket {planned.size}", where, "Make it as long as its clip."
        )
    clip = infos["video"]
    if rules.factors.temporal > 1 and clip.rate and reference.rate and abs(reference.rate / clip.rate - 1) > Fraction(1, 1000):
        yield Problem(
            f"has {float(reference.rate):g} frames per second, its clip {float(clip.rate):g}",
            where,
            "With reference_temporal_scale_factor a reference has the rate of its clip; write it anew at that.",
        )


def _mask_misfits(planned: Planned, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    mask, clip = infos.get("video_mask"), infos.get("video")
    if mask is not None and clip is not None:
        where, needed = planned.sample.at(mask.path), planned.size.frames
        if not mask.is_image and (mask.frames or 0) < needed:
            what = f"has {mask.frames} frames, but its clip has {needed} in the bucket {planned.size}"
            yield Problem(what, where, "Make it as long as its clip, or an image.")
        if not _same_aspect(mask, clip):
            what = f"has {mask.width} x {mask.height} pixels, its clip {clip.width} x {clip.height}, which is another shape"
            yield Problem(what, where, "A mask has the width and height of its clip, or the same multiple of both.")
    sound_mask = infos.get("audio_mask")
    if sound_mask is not None and sound_mask.duration is not None:
        misfit = mask_duration_misfit(planned, sound_mask.duration, rules.audio_scale)
        if misfit is not None:
            yield attrs.evolve(misfit, where=planned.sample.at(sound_mask.path))


def _same_aspect(one: MediaInfo, other: MediaInfo) -> bool:
    """Whether two pictures have one shape, up to a pixel of the smaller one."""
    across = (one.width or 0) * (other.height or 0)
    down = (one.height or 0) * (other.width or 0)
    return abs(across - down) <= max(one.width or 0, one.height or 0, other.width or 0, other.height or 0)


def mask_duration_misfit(planned: Planned, seconds: float, scale: Sequence[int]) -> Problem | None:
    """Why a mask of this length does not lie over a sound: it is neither as long as the sound nor as what is used of it, to a latent step."""
    step = 1 / AudioModality(mel_frames=scale[0]).default_rate
    if not planned.lengths or any(abs(seconds - length) <= step for length in planned.lengths):
        return None
    used, there = planned.lengths[0], planned.lengths[-1]
    lasts = f"{there:.3f} s" + (f", of which {used:.3f} s are used" if abs(used - there) > step else "")
    return Problem(f"lasts {seconds:.3f} s, but its sound {lasts}", remedy="A mask is as long as its sound, or as what is used of it.")
