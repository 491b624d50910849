"""The rules by which a dataset's samples are planned, which follow from its options and from what its files hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lcm

import attrs

from ltxcore.config.colors import REMEDY, parse_color
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset
from ltxcore.encode.buckets import Bucket, ReferenceFactors, common_size, parse_buckets, proposed_line
from ltxcore.encode.sample_sizes import Looked, Rules, infos_of, unreadable
from ltxcore.errors import ConfigError, DataError, Problem, listed, many
from ltxcore.media.pictures import Hdr, Rendering
from ltxcore.media.probe import MediaInfo
from ltxcore.protocols import Codec

Place = Callable[[str], str]
"""A function that returns the place of a key of the run file, such as `preprocessing.resolution_buckets`, for messages."""


def rules_from_options(data: Dataset, options: PreprocessingTable, video: Codec | None, audio: Codec | None, where: Place) -> Rules:
    """Return the rules that follow from the options alone. They are complete except for the buckets, if the options name none.

    Args:
        data: the dataset.
        options: the options of preprocessing.
        video: the video VAE; None if no clips are encoded.
        audio: the audio VAE; None if no audio is encoded.
        where: a function that returns the place of a key.
    Raises:
        ConfigError: the choice of windows is invalid or needs buckets; the codec cannot take a bucket, or references do not fit the
            buckets.
    """
    if wrong := options.window_problems():
        raise ConfigError.of(Problem(what, where("preprocessing.windows"), remedy) for _, what, remedy in wrong)
    buckets: tuple[Bucket, ...] = ()
    problems: tuple[Problem, ...] = ()
    if options.named_buckets is not None and video is not None:
        buckets, problems = parse_buckets(options.named_buckets, video.scale, where("preprocessing.resolution_buckets"))
        if not problems:
            problems = tuple(_reference_problems(data, buckets, video, where))
    if problems:
        raise ConfigError.of(problems)
    scale = audio.scale if audio is not None else (4, 1, 1)
    resamples, skips = options.variable_rate == "resample", options.on_error == "skip"
    durations = tuple(options.audio_durations)
    return Rules(data.columns, data.folders, buckets, durations, scale, resamples, skips, options.windows, data.may_lack)


def rendering_from_options(options: PreprocessingTable, where: Place) -> Rendering:
    """Return the user's choices of how frames of clips become RGB.

    Raises:
        ConfigError: `alpha_color` is not a color.
    """
    color = parse_color(options.alpha_color)
    if color is None:
        raise ConfigError(f'"{options.alpha_color}" is not a colour', where=where("preprocessing.alpha_color"), remedy=REMEDY)
    return Rendering(color, options.hdr)


def _reference_problems(data: Dataset, buckets: tuple[Bucket, ...], video: Codec, where: Place) -> list[Problem]:
    """Return the reasons why reference clips that are encoded do not fit the buckets."""
    columns = (column for column in data.columns.all if column.folder in data.folders and column.is_reference_video)
    kinds = dict.fromkeys(map(ReferenceFactors.of_column, columns))
    return [problem for factors in kinds for bucket in buckets for problem in factors.misfits(bucket, video.scale, where)]


def needs_buckets(data: Dataset, rules: Rules) -> bool:
    """Return whether the size of the clips still has to be found, because clips are encoded or because they set the length of the audio."""
    if rules.buckets or not any("video" in sample.media for sample in data.samples):
        return False
    return bool(data.folders & data.columns.folders_of("video")) or not rules.durations


def grid_of(rules: Rules, scale: Sequence[int]) -> tuple[int, int, int]:
    """Return the numbers of frames, rows and columns that divide those of every chosen bucket, so that the codec takes clips of these
    sizes, and smaller references too. It does not depend on whether there are references, so that runs with and without them have the same
    buckets.
    """
    factors = [ReferenceFactors.of_column(column) for column in rules.columns.all if column.is_reference_video]
    down, slower = lcm(*(each.downscale for each in factors)), lcm(*(each.temporal for each in factors))
    return scale[0] * slower, scale[1] * down, scale[2] * down


def found_buckets(data: Dataset, rules: Rules, looked: Looked, video: Codec, where: Place) -> tuple[Bucket, str]:
    """Find the bucket for a dataset whose options name none, and return it with a note that states it.

    Raises:
        DataError: the clips have several sizes, or a size that the codec does not take unchanged; the message also names all
            unreadable files.
        ConfigError: references do not fit the bucket.
    """
    unread = [problem for sample in data.samples for problem in unreadable(sample, looked)]
    sizes = sizes_of(data, looked, rules)
    if not sizes:
        raise DataError.of(unread or [Problem("none of the clips has video", str(data.path))])
    bucket, problem = common_size(sizes, video.scale, str(data.path))
    if problem is not None:
        problem = attrs.evolve(problem, remedy=f"Set resolution_buckets, such as {proposed_line(sizes, video.scale)}.")
    if problem is not None and not data.folders & data.columns.folders_of("video"):
        problem = attrs.evolve(problem, remedy=f"{problem.remedy} Since only their audio is used, you can set audio_durations instead.")
    if bucket is None or problem is not None:
        raise DataError.of([*unread, *([problem] if problem else [])])
    misfits = _reference_problems(data, (bucket,), video, where)
    if misfits:
        raise ConfigError.of(misfits)
    return bucket, f"{data.path}: resolution_buckets is {bucket}, the size of all its clips"


def sizes_of(data: Dataset, looked: Looked, rules: Rules) -> list[Bucket]:
    """Return the size of each readable clip, as a bucket."""
    infos = [infos_of(sample, looked, rules).get("video") for sample in data.samples if "video" in sample.media]
    known = [info for info in infos if info is not None and info.frames is not None]
    return [Bucket(info.width or 0, info.height or 0, info.frames or 0) for info in known]


def hdr_told(data: Dataset, looked: Looked, hdr: Hdr) -> str:
    """Return a note that says which clips or references are HDR, and how they are converted; "" if none is HDR."""
    roles = [column.role for column in data.columns.all if (column.kind, column.modality) == ("latents", "video")]
    files = dict.fromkeys(path for sample in data.samples for role, path in sample.media.items() if role in roles)
    found = [path.name for path in files if isinstance(info := looked.infos.get(path), MediaInfo) and "hdr" in info.picture_corrections]
    if not found:
        return ""
    are = many(len(found), "file is HDR, and is", "files are HDR, and are")
    done = (
        "converted to BT.709"
        if hdr == "bt709"
        else "left as it is, flat and pale"
        if len(found) == 1
        else "left as they are, flat and pale"
    )
    return f'{data.path}: {are} {done} (hdr = "{hdr}"): {listed(found)}'


def silent_set(data: Dataset, looked: Looked) -> Problem | None:
    """Return a single problem, instead of one per clip, if audio is wanted and no clip has any; None otherwise."""
    if (
        "audio" in data.may_lack
        or not data.folders & data.columns.folders_of("audio")
        or not data.samples
        or any("video" not in each.media or "audio" in each.media for each in data.samples)
    ):
        return None
    infos = [looked.infos.get(sample.media["video"]) for sample in data.samples]
    if any(not isinstance(info, MediaInfo) or info.sound_rate is not None for info in infos):
        return None
    return Problem("none of the clips has audio", str(data.path), 'Set skip_audio, or name audio files in a column "audio".')
