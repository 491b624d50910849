"""The size and length of every sample, and the samples that cannot be made, found before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Sample
from ltxcore.dataset.uneven import resampled, times_of
from ltxcore.encode.buckets import Bucket, ReferenceFactors, choose
from ltxcore.encode.cut_sounds import longest_fitting
from ltxcore.errors import DataError, Problem
from ltxcore.media.probe import MediaInfo
from ltxcore.modalities.audio import AudioModality
from ltxcore.workers import in_order

STORED_MASKS = frozenset({".safetensors", ".pt"})
"""The extensions of masks that already have one value per latent cell."""

PICTURES = frozenset({"video", "reference_video", "video_mask"})
SOUNDS = frozenset({"audio", "reference_audio", "audio_mask"})
SOUND_FOLDERS = frozenset({"audio_latents", "reference_audio_latents", "audio_masks"})
VIDEO_FOLDERS = frozenset({"latents", "reference_latents", "video_masks"})


@attrs.frozen(eq=False)
class Looked:
    """The facts found about the files of a dataset.

    Attributes:
        infos: the description of each file, or the reason why it cannot be read.
        heard: the seconds of decoded audio for files whose exact duration is needed: audio masks, and audio that has a
            mask.
    """

    infos: Mapping[Path, MediaInfo | DataError]
    heard: Mapping[Path, float] = attrs.field(factory=dict)


@attrs.frozen
class Planned:
    """A sample that can be made.

    Attributes:
        sample: the dataset's row.
        bucket: the bucket that its clip goes to; None if it has no clip, or only the audio of its clip is used.
        duration: the seconds of audio; None for all that its file has.
        folders: the folders that are made from it.
        without: the corrections in reading its files that its encoded files lack, which stay as they are all the same;
            see `ltxcore.encode.outdated`.
    """

    sample: Sample
    bucket: Bucket | None
    duration: Fraction | None
    folders: frozenset[str]
    without: tuple[str, ...] = ()

    @property
    def size(self) -> Bucket:
        """The sample's bucket, which must be there."""
        if self.bucket is None:
            raise ValueError(f"{self.sample.where} has no bucket")
        return self.bucket


@attrs.frozen(eq=False)
class Rules:
    """The rules by which samples are planned.

    Attributes:
        folders: the folders to make.
        buckets: the buckets that clips are fitted to; empty if only audio is encoded.
        durations: the seconds that audio without a clip is cut to; empty if it is not cut.
        factors: the factors of references.
        audio_scale: the audio codec's scale; its first number is the mel frames in a latent step.
        resamples: whether clips with a variable frame rate are resampled to a constant one.
        skips: whether unusable samples are left out as things are.
    """

    folders: frozenset[str]
    buckets: tuple[Bucket, ...] = ()
    durations: tuple[float, ...] = ()
    factors: ReferenceFactors = attrs.field(factory=ReferenceFactors)
    audio_scale: Sequence[int] = (4, 1, 1)
    resamples: bool = False
    skips: bool = False

    def or_skip(self, remedy: str, skipped: str) -> str:
        """Add to a remedy that `on_error` could leave the sample out, unless that is set already."""
        return f"{remedy}." if self.skips else f'{remedy}, or {skipped} with on_error = "skip".'


def look_at(samples: Sequence[Sample], raw: RawFiles, workers: int, step: Callable[[], None], *, listens: bool = True) -> Looked:
    """Find out what each file of the samples holds.

    Args:
        samples: the dataset's rows.
        raw: the facts about raw files, which look at a file if it is not known.
        workers: the number of threads.
        step: a function that is called after each file.
        listens: whether audio whose exact length is needed is decoded.
    """
    paths, masked = files_of(samples), _masked_sounds(samples) if listens else set[Path]()

    def look(path: Path) -> tuple[MediaInfo | DataError, float | None]:
        try:
            info = raw.info(path)
            return info, raw.seconds(path) if path in masked and info.sound_rate is not None else None
        except DataError as error:
            return error, None
        finally:
            step()

    found = dict(zip(paths, in_order(look, paths, workers), strict=True))
    heard = {path: seconds for path, (_, seconds) in found.items() if seconds is not None}
    return Looked({path: info for path, (info, _) in found.items()}, heard)


def files_of(samples: Sequence[Sample]) -> list[Path]:
    """List the media files of some samples, each once."""
    return list(dict.fromkeys(path for sample in samples for path in sample.media.values() if path.suffix.lower() not in STORED_MASKS))


def _masked_sounds(samples: Sequence[Sample]) -> set[Path]:
    masked = [sample for sample in samples if "audio_mask" in sample.media]
    return {path for sample in masked for path in (sample.sound, sample.media["audio_mask"])}


def plan_sample(sample: Sample, looked: Looked, rules: Rules) -> Planned | list[Problem]:
    """Plan the size and length of a sample, or return everything that prevents it."""
    infos = infos_of(sample, looked, rules.resamples)
    problems = [*unreadable(sample, looked), *_wrong_media(sample, infos, rules)]
    if problems:
        return problems
    lacking, rest = _lacking(sample, infos, rules)
    if lacking:
        other = plan_sample(sample, looked, rest)
        return [*lacking, *(other if isinstance(other, list) else ())]
    planned = _beside_clip(sample, infos, rules) if rules.buckets and "video" in infos else _alone(sample, infos, rules)
    if isinstance(planned, Problem):
        return [planned]
    problems = [*_reference_misfits(planned, infos, rules), *_mask_misfits(planned, infos), *_mask_length_misfits(planned, looked, rules)]
    return problems or planned


def plan_part(sample: Sample, looked: Looked, rules: Rules) -> Planned | None:
    """Plan what can be made from a sample without the audio or video that it lacks. None for other samples,
    and if something else is wrong too.
    """
    lacking, rest = _lacking(sample, infos_of(sample, looked, rules.resamples), rules)
    if not lacking or not rest.folders & (SOUND_FOLDERS | VIDEO_FOLDERS):
        return None
    found = plan_sample(sample, looked, rest)
    return found if isinstance(found, Planned) else None


def _lacking(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> tuple[list[Problem], Rules]:
    """Find whether a sample lacks audio or video that is wanted, and return the rules for the rest of it."""
    silent = list(_soundless(sample, infos, rules)) if rules.folders & SOUND_FOLDERS else []
    if silent:
        return silent, attrs.evolve(rules, folders=rules.folders - SOUND_FOLDERS)
    if rules.folders & VIDEO_FOLDERS and "video" not in sample.media:
        remedy = rules.or_skip("Move it elsewhere", "keep only its audio" if rules.folders & SOUND_FOLDERS else "leave it out")
        problem = Problem("is a sound, without video", sample.at(sample.sound), remedy)
        return [problem], attrs.evolve(rules, folders=rules.folders - VIDEO_FOLDERS)
    return [], rules


def infos_of(sample: Sample, looked: Looked, resamples: bool) -> dict[str, MediaInfo]:
    """Return descriptions of the readable files of a sample, by role; if uneven clips are resampled, files whose frames
    correspond to a clip's get its frames and rate.
    """
    infos = {role: info for role, path in sample.media.items() if isinstance(info := looked.infos.get(path), MediaInfo)}
    clip = infos.get("video")
    if not resamples or clip is None or clip.uneven is None:
        return infos
    goes_with = {role for role, info in infos.items() if role in PICTURES and times_of(info, clip) is clip}
    return {role: resampled(info, clip.uneven) if role in goes_with else info for role, info in infos.items()}


def unreadable(sample: Sample, looked: Looked) -> Iterator[Problem]:
    """Find the files of a sample that cannot be read."""
    for path in sample.media.values():
        found = looked.infos.get(path)
        if isinstance(found, DataError):
            yield from (attrs.evolve(problem, where=sample.at(path)) for problem in found.problems)


def _wrong_media(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Find the files that lack the video or the audio that their column is for."""
    for role, info in infos.items():
        where = sample.at(info.path)
        if role in PICTURES and info.frames is None and (role != "video" or rules.buckets):
            yield Problem("has no pictures", where, "Name a clip or an image.")
        if role in SOUNDS and info.sound_rate is None:
            yield Problem(info.unheard or "has no sound", where, "Name a file with audio.")


def _soundless(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Report a clip that has no audio."""
    clip = infos.get("video")
    if clip is None:
        return
    where = sample.at(clip.path)
    if clip.is_image:
        remedy = rules.or_skip("Set skip_audio", "keep only its image")
        yield Problem("is an image, which has neither duration nor audio", where, remedy)
    elif "audio" not in sample.media and clip.sound_rate is None:
        named = 'Set skip_audio{} name a sound in a column "audio"'
        remedy = rules.or_skip(named.format(" or" if rules.skips else ","), "keep only its video")
        yield Problem(clip.unheard or "has no sound", where, remedy)


def _beside_clip(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Planned | Problem:
    clip = infos["video"]
    frames, height, width = clip.frames or 0, clip.height or 0, clip.width or 0
    bucket = choose(rules.buckets, width, height, frames, clip.is_image)
    if bucket is None and clip.is_image:
        return Problem("is an image, and no bucket has one frame", sample.at(clip.path), f'Add a bucket such as "{width}x{height}x1".')
    if bucket is None:
        shortest = min(bucket.frames for bucket in rules.buckets)
        remedy = rules.or_skip("Add a shorter bucket", "leave it out")
        return Problem(f"has {frames} frames, but the shortest bucket has {shortest}", sample.at(clip.path), remedy)
    duration = bucket.frames / clip.rate if clip.rate else None
    return Planned(sample, bucket, duration, rules.folders)


def _alone(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Planned | Problem:
    if not rules.durations or not rules.folders & SOUND_FOLDERS:
        return Planned(sample, None, None, rules.folders)
    info = infos["audio" if "audio" in infos else "video"]
    length = info.duration or 0.0
    duration = longest_fitting(rules.durations, length)
    if duration is None:
        what = f"lasts {length:.3f} s, but the shortest of audio_durations is {min(rules.durations):g} s"
        return Problem(what, sample.at(info.path), rules.or_skip("Add a shorter one", "leave it out"))
    return Planned(sample, None, duration, rules.folders)


def _reference_misfits(planned: Planned, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Find references that are too short, or whose frames are shown at other times than those of their clip.

    Source: docs/explanation/arithmetic.md#temporal-factor-of-a-reference
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
            f"has {float(reference.rate):g} frames per second, but its clip has {float(clip.rate):g}",
            where,
            "With reference_temporal_scale_factor, a reference must have the frame rate of its clip; write it again at that rate.",
        )


def _mask_misfits(planned: Planned, infos: Mapping[str, MediaInfo]) -> Iterator[Problem]:
    mask, clip = infos.get("video_mask"), infos.get("video")
    if mask is not None and clip is not None:
        where, needed = planned.sample.at(mask.path), planned.size.frames
        if not mask.is_image and (mask.frames or 0) < needed:
            what = f"has {mask.frames} frames, but its clip has {needed} in the bucket {planned.size}"
            yield Problem(what, where, "Make it as long as its clip, or use an image.")
        if mask_shape(mask, clip) is None:
            what = (
                f"has {mask.width} x {mask.height} pixels, but its clip has {clip.width} x {clip.height}, which is a different aspect ratio"
            )
            yield Problem(what, where, "A mask must have the width and height of its clip, or the same multiple of both.")


def _mask_length_misfits(planned: Planned, looked: Looked, rules: Rules) -> Iterator[Problem]:
    """Find an audio mask whose length, to within a latent step, is neither that of the audio nor that of the part that is used."""
    sample, step = planned.sample, 1 / AudioModality(mel_frames=rules.audio_scale[0]).default_rate
    path = sample.media.get("audio_mask")
    if path is None or path not in looked.heard or "audio_masks" not in rules.folders:
        return
    seconds, heard = looked.heard[path], looked.heard[sample.sound]
    clip = looked.infos.get(sample.sound)
    # Coded audio is a little longer or shorter than the pictures that it goes with; a mask may be as long as either.
    there = clip.duration if isinstance(clip, MediaInfo) and clip.duration is not None else heard
    used = there if planned.duration is None else float(planned.duration)
    if all(abs(seconds - length) > step for length in (used, there, heard)):
        lasts = f"{there:.3f} s" + (f", of which {used:.3f} s are used" if abs(used - there) > step else "")
        what = f"lasts {seconds:.3f} s, but its sound {lasts}"
        yield Problem(what, sample.at(path), "A mask must be as long as its sound, or as the part of the sound that is used.")


def uneven_clips(planned: Sequence[Planned], looked: Looked) -> list[str]:
    """List the clips with a variable frame rate among the frames that their buckets use, by the names that the dataset gives them."""
    infos = [(each, looked.infos.get(each.sample.media["video"])) for each in planned if each.bucket is not None]
    return [each.sample.origin for each, info in infos if isinstance(info, MediaInfo) and info.is_uneven(each.size.frames)]


def mask_shape(mask: MediaInfo, clip: MediaInfo) -> tuple[int, int] | None:
    """Return the height and width that a mask is shown with: its own, or those of its clip if it was painted on the
    clip's stored pixels and these are not square. None if its shape is not that of its clip.
    """
    if mask.is_shaped_as(clip):
        return mask.height or 0, mask.width or 0
    stored = attrs.evolve(clip, width=round((clip.width or 0) / clip.aspect))
    return (clip.height or 0, clip.width or 0) if mask.is_shaped_as(stored) else None
