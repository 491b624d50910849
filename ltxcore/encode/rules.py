"""The rules by which a dataset's samples are planned, from its options and what its files hold."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ltxcore.config.colors import REMEDY, parse_color
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset
from ltxcore.encode.buckets import Bucket, ReferenceFactors, common_size, parse_buckets, proposed_line
from ltxcore.encode.sample_sizes import SOUND_FOLDERS, VIDEO_FOLDERS, Looked, Rules, unreadable
from ltxcore.errors import ConfigError, DataError, Problem, listed
from ltxcore.media.pictures import Hdr, Rendering
from ltxcore.media.probe import MediaInfo
from ltxcore.protocols import Codec

Place = Callable[[str], str]
"""A function that returns the place of a key of the run file, such as `preprocessing.resolution_buckets`, for messages."""


def rules_from_options(data: Dataset, options: PreprocessingTable, video: Codec | None, audio: Codec | None, where: Place) -> Rules:
    """Return the rules that follow from the options alone: everything except the buckets of a dataset that names none.

    Args:
        data: the dataset.
        options: the options of preprocessing.
        video: the video VAE; None if the dataset has no clips, or none is encoded.
        audio: the audio VAE; None if no audio is encoded.
        where: a function that returns the place of a key. Raises:
        ConfigError: the codec cannot take a bucket, or references do not fit the buckets.
    """
    factors = ReferenceFactors(options.reference_downscale_factor, options.reference_temporal_scale_factor)
    buckets: tuple[Bucket, ...] = ()
    problems: tuple[Problem, ...] = ()
    if options.resolution_buckets is not None and video is not None:
        buckets, problems = parse_buckets(options.resolution_buckets, video.scale, where("preprocessing.resolution_buckets"))
        if not problems and "reference_latents" in data.folders:
            problems = tuple(_reference_problems(buckets, factors, video, where))
    if problems:
        raise ConfigError.of(problems)
    scale = audio.scale if audio is not None else (4, 1, 1)
    resamples, skips = options.variable_rate == "resample", options.on_error == "skip"
    return Rules(data.folders, buckets, tuple(options.audio_durations), factors, scale, resamples, skips)


def rendering_from_options(options: PreprocessingTable, where: Place) -> Rendering:
    """Return how the frames of clips become RGB.

    Raises:
        ConfigError: `alpha_color` is not a color.
    """
    color = parse_color(options.alpha_color)
    if color is None:
        raise ConfigError(f'"{options.alpha_color}" is not a colour', where=where("preprocessing.alpha_color"), remedy=REMEDY)
    return Rendering(color, options.hdr)


def _reference_problems(buckets: tuple[Bucket, ...], factors: ReferenceFactors, video: Codec, where: Place) -> list[Problem]:
    return [problem for bucket in buckets for problem in factors.misfits(bucket, video.scale, where)]


def needs_buckets(data: Dataset, rules: Rules) -> bool:
    """Return whether the size of the clips must still be determined, because the clips themselves are encoded or
    because they set the length of the audio.
    """
    if rules.buckets or not any("video" in sample.media for sample in data.samples):
        return False
    return bool(data.folders & VIDEO_FOLDERS) or not rules.durations


def found_buckets(data: Dataset, rules: Rules, looked: Looked, video: Codec, where: Place) -> tuple[Bucket, str]:
    """Find the bucket for a dataset that names none, and a note that says so.

    Raises:
        DataError: its clips have several sizes, or one that the codec does not take as it is; all files that cannot be
            read are named too.
        ConfigError: references do not fit the bucket.
    """
    unread = [problem for sample in data.samples for problem in unreadable(sample, looked)]
    sizes = sizes_of(data, looked)
    if not sizes:
        raise DataError.of(unread or [Problem("none of its clips has video", str(data.path))])
    bucket, problem = common_size(sizes, video.scale, str(data.path))
    if problem is not None:
        problem = attrs.evolve(problem, remedy=f"Set resolution_buckets, such as {proposed_line(sizes, video.scale)}.")
    if problem is not None and not data.folders & VIDEO_FOLDERS:
        problem = attrs.evolve(problem, remedy=f"{problem.remedy} Since only their audio is used, you can set audio_durations instead.")
    if bucket is None or problem is not None:
        raise DataError.of([*unread, *([problem] if problem else [])])
    if "reference_latents" in data.folders:
        misfits = _reference_problems((bucket,), rules.factors, video, where)
        if misfits:
            raise ConfigError.of(misfits)
    return bucket, f"{data.path}: resolution_buckets is {bucket}, the size of all its clips"


def sizes_of(data: Dataset, looked: Looked) -> list[Bucket]:
    """Return the size of each readable clip, as a bucket of its own."""
    infos = [looked.infos.get(sample.media["video"]) for sample in data.samples if "video" in sample.media]
    known = [info for info in infos if isinstance(info, MediaInfo) and info.frames is not None]
    return [Bucket(info.width or 0, info.height or 0, info.frames or 0) for info in known]


def hdr_told(data: Dataset, looked: Looked, hdr: Hdr) -> str:
    """Say which clips or references are HDR, and how they are converted; "" if none is."""
    roles = ("video", "reference_video")
    files = dict.fromkeys(path for sample in data.samples for role, path in sample.media.items() if role in roles)
    found = [path.name for path in files if isinstance(info := looked.infos.get(path), MediaInfo) and "hdr" in info.picture_corrections]
    if not found:
        return ""
    are = "1 file is HDR, and is" if len(found) == 1 else f"{len(found)} files are HDR, and are"
    done = (
        "converted to BT.709"
        if hdr == "bt709"
        else "left as it is, flat and pale"
        if len(found) == 1
        else "left as they are, flat and pale"
    )
    return f'{data.path}: {are} {done} (hdr = "{hdr}"): {listed(found)}'


def silent_set(data: Dataset, looked: Looked) -> Problem | None:
    """Return one problem instead of many if audio is wanted and no clip has any."""
    if (
        not data.folders & SOUND_FOLDERS
        or not data.samples
        or any("video" not in each.media or "audio" in each.media for each in data.samples)
    ):
        return None
    infos = [looked.infos.get(sample.media["video"]) for sample in data.samples]
    if any(not isinstance(info, MediaInfo) or info.sound_rate is not None for info in infos):
        return None
    return Problem("none of its clips has audio", str(data.path), 'Set skip_audio, or name audio files in a column "audio".')
