"""Functions that plan the size and length of every sample, and find the samples that cannot be made, before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import attrs

from ltxcore.dataset.columns import Column, Columns
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Sample
from ltxcore.dataset.uneven import resampled, times_of
from ltxcore.encode.buckets import Bucket, choose
from ltxcore.encode.cut_sounds import longest_fitting
from ltxcore.errors import DataError, Problem
from ltxcore.media.probe import MediaInfo
from ltxcore.modalities.audio import AudioModality
from ltxcore.protocols import MODALITIES
from ltxcore.workers import in_order

STORED_MASKS = frozenset({".safetensors", ".pt"})
"""The extensions of masks that already have one value per latent cell."""


@attrs.frozen(eq=False)
class Looked:
    """The facts that were found about a dataset's files.

    Attributes:
        infos: the description of each file, or the reason why it cannot be read.
        heard: the duration of decoded audio in seconds, for audio masks and for audio with a mask, which need exact durations.
    """

    infos: Mapping[Path, MediaInfo | DataError]
    heard: Mapping[Path, float] = attrs.field(factory=dict)


@attrs.frozen
class Planned:
    """A sample that can be made.

    Attributes:
        sample: the dataset's row.
        bucket: the bucket that the clip goes to; None if there is no clip, or only the clip's audio is used.
        duration: the seconds of audio; None for all audio in the file.
        folders: the folders that are made from the sample.
        without: the corrections that were made since the sample was encoded; the sample stays unchanged nevertheless, see
            `ltxcore.encode.outdated`.
    """

    sample: Sample
    bucket: Bucket | None
    duration: Fraction | None
    folders: frozenset[str]
    without: tuple[str, ...] = ()

    def modalities(self, columns: Columns) -> frozenset[str]:
        """Return the modalities that the sample has data of."""
        return frozenset(each for each in MODALITIES if self.folders & columns.folders_of(each))

    @property
    def size(self) -> Bucket:
        """The sample's bucket; it is an error if there is none."""
        if self.bucket is None:
            raise ValueError(f"{self.sample.where} has no bucket")
        return self.bucket

    @property
    def end(self) -> int:
        """The number of frames of the clip up to the last one that is used."""
        return self.sample.start + self.size.frames

    @property
    def used(self) -> str:
        """A description of the part of the clip up to the last frame that is used."""
        return f"to the end of this window of {self.size}" if self.sample.start else f"in the bucket {self.size}"


@attrs.frozen(eq=False)
class Rules:
    """The rules by which samples are planned.

    Attributes:
        columns: the columns that the dataset could have.
        folders: the folders to make.
        buckets: the buckets that clips are fitted to; empty if only audio is encoded.
        durations: the durations in seconds that audio without a clip is cut to; empty if it is not cut.
        audio_scale: the audio codec's scale, which begins with the number of mel frames in a latent step.
        resamples: whether clips with a variable frame rate are resampled to a constant one.
        skips: whether the options already say to leave out unusable samples.
        windows: the parts of a clip that become samples, as the key `windows` says.
        may_lack: the modalities that samples may lack.
    """

    columns: Columns
    folders: frozenset[str]
    buckets: tuple[Bucket, ...] = ()
    durations: tuple[float, ...] = ()
    audio_scale: Sequence[int] = (4, 1, 1)
    resamples: bool = False
    skips: bool = False
    windows: str = "first"
    may_lack: frozenset[str] = frozenset()

    @property
    def sound_folders(self) -> frozenset[str]:
        """The folders to make that have data of audio."""
        return self.folders & self.columns.folders_of("audio")

    @property
    def video_folders(self) -> frozenset[str]:
        """The folders to make that have data of video."""
        return self.folders & self.columns.folders_of("video")

    def made_from(self, sample: Sample, kind: str, modality: str) -> Iterator[Column]:
        """Yield the columns of a sample, other than its own clip and audio, whose media become data of this kind and modality."""
        for column in self.columns.all:
            if (column.kind, column.modality) == (kind, modality) and not column.is_target and column.role in sample.media:
                yield column

    def or_skip(self, remedy: str, skipped: str) -> str:
        """Add to a remedy that `on_error` could leave the sample out, unless it is set to do so already."""
        return f"{remedy}." if self.skips else f'{remedy}, or {skipped} with on_error = "skip".'

    def or_part(self, remedy: str, kept: str) -> str:
        """Add to a remedy that the rest of a sample could be kept or, where video and audio are wanted, trained on."""
        told = self.or_skip(remedy, f"keep only {kept}")
        if not (self.video_folders and self.sound_folders):
            return told
        return f'{told} Or set missing = "train_without" under [data], if the run generates both video and audio.'


def look_at(
    samples: Sequence[Sample], rules: Rules, raw: RawFiles, workers: int, step: Callable[[], None], *, listens: bool = True
) -> Looked:
    """Find out what each of the samples' files holds.

    Args:
        samples: the dataset's rows.
        rules: the rules by which they are planned.
        raw: the stored facts; a file without stored facts is opened.
        workers: the number of threads.
        step: a function that is called after each file.
        listens: whether to decode audio if its exact length is needed.
    """
    paths, masked = files_of(samples), _masked_sounds(samples, rules) if listens else set[Path]()

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
    """List the media files of samples, each once."""
    stored = tuple(STORED_MASKS)  # compared with text, since a path's suffix is slow to find, and datasets are large
    paths = dict.fromkeys(path for sample in samples for path in sample.media.values())
    return [path for path in paths if not str(path).lower().endswith(stored)]


def _masked_sounds(samples: Sequence[Sample], rules: Rules) -> set[Path]:
    masked = [(sample, column.role) for sample in samples for column in rules.made_from(sample, "mask", "audio")]
    return {path for sample, role in masked for path in (sample.sound, sample.media[role])}


def plan_sample(sample: Sample, looked: Looked, rules: Rules) -> Planned | list[Problem]:
    """Plan the size and length of a sample, or return all problems that prevent this."""
    infos = infos_of(sample, looked, rules)
    problems = [*unreadable(sample, looked), *_wrong_media(sample, infos, rules)]
    if problems:
        return problems
    lacking, rest = _lacking(sample, infos, rules)
    if lacking and _trains_without(rules, rest):
        return plan_sample(sample, looked, rest)
    if lacking:
        other = plan_sample(sample, looked, rest)
        return [*lacking, *(other if isinstance(other, list) else ())]
    planned = _beside_clip(sample, infos, rules) if rules.buckets and "video" in infos else _alone(sample, infos, rules)
    if isinstance(planned, Problem):
        return [planned]
    problems = [
        *_companionless(planned, rules),
        *_reference_misfits(planned, infos, rules),
        *_mask_misfits(planned, infos, rules),
        *_mask_length_misfits(planned, looked, rules),
        *(_window_misfits(planned, infos, rules) if sample.start else ()),
    ]
    return problems or planned


def _trains_without(rules: Rules, rest: Rules) -> bool:
    """Return whether a sample may lack the modality whose folders `rest` leaves out, and has the other one."""
    lacked = "audio" if rules.sound_folders and not rest.sound_folders else "video"
    return lacked in rules.may_lack and bool(rest.sound_folders or rest.video_folders)


def plan_part(sample: Sample, looked: Looked, rules: Rules) -> Planned | None:
    """Plan what can be made from a sample that lacks audio or video.

    The result is None if the sample lacks neither, or if something else is wrong too.
    """
    lacking, rest = _lacking(sample, infos_of(sample, looked, rules), rules)
    if not lacking or not (rest.sound_folders or rest.video_folders):
        return None
    found = plan_sample(sample, looked, rest)
    return found if isinstance(found, Planned) else None


def _lacking(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> tuple[list[Problem], Rules]:
    """Return the problem if a sample lacks wanted audio or video, and in any case the rules for the media that the sample has."""
    silent = list(_soundless(sample, infos, rules)) if rules.sound_folders else []
    if silent:
        return silent, attrs.evolve(rules, folders=rules.folders - rules.sound_folders)
    if rules.video_folders and "video" not in sample.media:
        elsewhere = "Move it elsewhere"
        remedy = rules.or_part(elsewhere, "its audio") if rules.sound_folders else rules.or_skip(elsewhere, "leave it out")
        problem = Problem("has audio but no video", sample.at(sample.sound), remedy)
        return [problem], attrs.evolve(rules, folders=rules.folders - rules.video_folders)
    return [], rules


def infos_of(sample: Sample, looked: Looked, rules: Rules) -> dict[str, MediaInfo]:
    """Return descriptions of a sample's readable files, by role.

    If uneven clips are resampled, files whose frames correspond to the clip's frames get the clip's new frames and rate.
    """
    infos = {role: info for role, path in sample.media.items() if isinstance(info := looked.infos.get(path), MediaInfo)}
    clip = infos.get("video")
    if not rules.resamples or clip is None or clip.uneven is None:
        return infos
    pictures = {column.role for column in rules.columns.all if column.modality == "video"}
    goes_with = {role for role, info in infos.items() if role in pictures and times_of(info, clip) is clip}
    return {role: resampled(info, clip.uneven) if role in goes_with else info for role, info in infos.items()}


def unreadable(sample: Sample, looked: Looked) -> Iterator[Problem]:
    """Yield the problems of a sample's files that cannot be read."""
    for path in sample.media.values():
        found = looked.infos.get(path)
        if isinstance(found, DataError):
            yield from (attrs.evolve(problem, where=sample.at(path)) for problem in found.problems)


def _wrong_media(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Yield the problems of files that lack the video or the audio that their column is for."""
    for role, info in infos.items():
        where, modality = sample.at(info.path), rules.columns.by_role[role].modality
        if modality == "video" and info.frames is None and (role != "video" or rules.buckets):
            yield Problem("has no pictures", where, "Name a clip or an image.")
        if modality == "audio" and info.sound_rate is None:
            yield Problem(info.unheard or "has no sound", where, "Name a file with audio.")


def _soundless(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Yield the problem of a clip that has no audio."""
    clip = infos.get("video")
    if clip is None:
        return
    where = sample.at(clip.path)
    if clip.is_image:
        remedy = rules.or_part("Set skip_audio", "its image")
        yield Problem("is an image, which has neither duration nor audio", where, remedy)
    elif "audio" not in sample.media and clip.sound_rate is None:
        named = 'Set skip_audio{} name a sound in a column "audio"'
        remedy = rules.or_part(named.format(" or" if rules.skips else ","), "its video")
        yield Problem(clip.unheard or "has no sound", where, remedy)


def _companionless(planned: Planned, rules: Rules) -> Iterator[Problem]:
    """Yield the problem of a sample that has a modality, but not a mask, reference or value that goes with it."""
    sample = planned.sample
    for column in rules.columns.all if rules.may_lack else ():
        if column.plugin is not None and column.folder in rules.folders and column.role not in {*sample.media, *sample.cells}:
            what = f"has {column.modality}, but lacks the {column.role.replace('_', ' ')} that goes with it"
            yield Problem(what, sample.where, "Add it, or leave the sample out.")


def bucket_of(clip: MediaInfo, rules: Rules) -> Bucket | None:
    """Return the bucket that a clip goes to; None if it is too short for all of them."""
    return choose(rules.buckets, clip.width or 0, clip.height or 0, clip.frames or 0, clip.is_image)


def _beside_clip(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Planned | Problem:
    clip = infos["video"]
    frames, height, width = clip.frames or 0, clip.height or 0, clip.width or 0
    bucket = bucket_of(clip, rules)
    if bucket is None and clip.is_image:
        return Problem("is an image, and no bucket has one frame", sample.at(clip.path), f'Add a bucket such as "{width}x{height}x1".')
    if bucket is None:
        shortest = min(bucket.frames for bucket in rules.buckets)
        remedy = rules.or_skip("Add a shorter bucket", "leave it out")
        return Problem(
            f"has {frames} frame{'' if frames == 1 else 's'}, but the shortest bucket has {shortest}", sample.at(clip.path), remedy
        )
    duration = bucket.frames / clip.rate if clip.rate else None
    return Planned(sample, bucket, duration, rules.folders)


def _alone(sample: Sample, infos: Mapping[str, MediaInfo], rules: Rules) -> Planned | Problem:
    if not rules.durations or not rules.sound_folders:
        return Planned(sample, None, None, rules.folders)
    info = infos["audio" if "audio" in infos else "video"]
    length = info.duration or 0.0
    duration = longest_fitting(rules.durations, length)
    if duration is None:
        what = f"lasts {length:.3f} s, but the shortest of audio_durations is {min(rules.durations):g} s"
        return Problem(what, sample.at(info.path), rules.or_skip("Add a shorter one", "leave it out"))
    return Planned(sample, None, duration, rules.folders)


def _reference_misfits(planned: Planned, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Yield the problems of a reference that is too short, or whose frame rate differs from its clip's where the rate matters.

    Source: docs/explanation/arithmetic.md#temporal-factor-of-a-reference
    """
    for column in rules.made_from(planned.sample, "latents", "video"):
        reference, clip = infos.get(column.role), infos["video"]
        if reference is None or reference.is_image:
            continue
        where, needed = planned.sample.at(reference.path), planned.end
        if (reference.frames or 0) < needed:
            what = f"has {reference.frames} frames, but its clip has {needed} {planned.used}"
            yield Problem(what, where, "Make the reference as long as its clip.")
        if column.temporal_scale_factor > 1 and clip.rate and reference.rate and abs(reference.rate / clip.rate - 1) > Fraction(1, 1000):
            yield Problem(
                f"has {float(reference.rate):g} frames per second, but its clip has {float(clip.rate):g}",
                where,
                f"With {column.factor_keys[1]}, a reference must have the frame rate of its clip; convert the reference to that rate.",
            )


def _mask_misfits(planned: Planned, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    for column in rules.made_from(planned.sample, "mask", "video"):
        mask, clip = infos.get(column.role), infos.get("video")
        if mask is None or clip is None:  # it has one value per latent cell already
            continue
        where, needed = planned.sample.at(mask.path), planned.end
        if not mask.is_image and (mask.frames or 0) < needed:
            what = f"has {mask.frames} frames, but its clip has {needed} {planned.used}"
            yield Problem(what, where, "Make the mask as long as its clip, or use an image.")
        if mask_shape(mask, clip) is None:
            what = (
                f"has {mask.width} x {mask.height} pixels, but its clip has {clip.width} x {clip.height}, which is a different aspect ratio"
            )
            yield Problem(what, where, "A mask may be larger or smaller than its clip, but must have the same aspect ratio.")


def _mask_length_misfits(planned: Planned, looked: Looked, rules: Rules) -> Iterator[Problem]:
    """Yield the problem of an audio mask that is neither as long as the audio nor as long as its used part, to within a latent step."""
    sample, step = planned.sample, 1 / AudioModality(mel_frames=rules.audio_scale[0]).default_rate
    columns = [column for column in rules.made_from(sample, "mask", "audio") if column.folder in rules.folders]
    yield from (problem for column in columns for problem in _mask_length_misfit(planned, sample.media[column.role], looked, step))


def _mask_length_misfit(planned: Planned, path: Path, looked: Looked, step: float) -> Iterator[Problem]:
    sample = planned.sample
    if path not in looked.heard:
        return
    seconds, heard = looked.heard[path], looked.heard[sample.sound]
    clip = looked.infos.get(sample.sound)
    # Coded audio is a little longer or shorter than the pictures that it belongs to; a mask may be as long as either.
    there = clip.duration if isinstance(clip, MediaInfo) and clip.duration is not None else heard
    used = there if planned.duration is None else float(planned.duration)
    # A mask that is as long as one window cannot be cut to the others.
    if all(abs(seconds - length) > step for length in (*(() if sample.start else (used,)), there, heard)):
        lasts = f"{there:.3f} s" + (f", of which {used:.3f} s are used" if abs(used - there) > step else "")
        what = f"lasts {seconds:.3f} s, but its sound {lasts}"
        yield Problem(what, sample.at(path), "A mask must be as long as its sound, or as the part of the sound that is used.")


def _window_misfits(planned: Planned, infos: Mapping[str, MediaInfo], rules: Rules) -> Iterator[Problem]:
    """Yield the problems of a row's media and cells that cannot be cut to a window that begins after the clip does."""
    sample, remedy = planned.sample, 'Or set windows = "first".'
    clip = infos["video"]
    seconds = sample.start / float(clip.rate or 1)
    for column in (column for column in rules.columns.all if column.folder in rules.folders):
        path = sample.media.get(column.role)
        if column.kind == "mask" and path is not None and path.suffix.lower() in STORED_MASKS:
            what = "has a value for each latent cell of the beginning of its clip, and none for other windows"
            yield Problem(what, sample.at(path), f"Name a mask that is a clip, an image or a sound. {remedy}")
        elif (column.kind, column.modality) == ("latents", "audio") and not column.is_target and column.role in infos:
            length = infos[column.role].duration
            if length is not None and length <= seconds:
                what = f"lasts {length:.3f} s, but this window of its clip begins at {seconds:.3f} s"
                yield Problem(what, sample.at(infos[column.role].path), f"Make the reference as long as its clip. {remedy}")
        elif column.role in sample.cells and column.has_frames and not (column.modality == "video" and column.cuts_windows):
            cell = sample.cells[column.role]
            what = f'the column "{column.role}" has values for the frames of a clip, which it does not cut to windows'
            why = "The class of the column must use `target.start`, and say so with `cuts_windows = True`."
            if column.modality == "audio":
                what = f'the column "{column.role}" has values for the latent steps of the audio, which windows do not begin with'
                why = "Leave the column out."
            yield Problem(what, sample.at(cell) if isinstance(cell, Path) else sample.where, f"{why} {remedy}")


def uneven_clips(planned: Sequence[Planned], looked: Looked) -> list[str]:
    """List the clips whose frame rate varies within the frames that their buckets use, as the dataset names them."""
    infos = [(each, looked.infos.get(each.sample.media["video"])) for each in planned if each.bucket is not None]
    return list(dict.fromkeys(each.sample.origin for each, info in infos if isinstance(info, MediaInfo) and info.is_uneven(each.end)))


def mask_shape(mask: MediaInfo, clip: MediaInfo) -> tuple[int, int] | None:
    """Return the height and width that a mask is shown with; None if its shape does not match its clip.

    These are the mask's own height and width, or the clip's if the mask was painted on the clip's stored pixels and these are not square.
    """
    if mask.is_shaped_as(clip):
        return mask.height or 0, mask.width or 0
    stored = attrs.evolve(clip, width=round((clip.width or 0) / clip.aspect))
    return (clip.height or 0, clip.width or 0) if mask.is_shaped_as(stored) else None
