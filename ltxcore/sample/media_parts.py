"""Choose the part of a media file that a sample uses, and how much of this part a condition gives; refuse files that
are too short.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import attrs

from ltxcore.conditions import AskedCondition, PictureFiles
from ltxcore.declarations import content_of
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import ConfigError, DataError
from ltxcore.media.probe import MediaInfo
from ltxcore.sample.cuts import ClipCut, Cut, clip_cut, look, samples_in, sound_cut, steps_of
from ltxcore.sample.empty_tokens import Canvas
from ltxcore.state import Grid


def part_of(canvas: Canvas, path: Path, modality: str, *, whole: bool = False, from_end: bool = False) -> Cut:
    """Choose the part of a file that corresponds to the target.

    Args:
        canvas: the sample to generate, in latent cells.
        path: the file.
        modality: the modality to take from the file.
        whole: whether the file must be as long as the sample.
        from_end: whether the end of a longer file is used instead of its beginning.

    Raises:
        DataError: the file cannot be read, or is too short.
    """
    request = canvas.request
    if modality == "audio":
        sound = sound_cut(path, request.seconds, from_end=from_end)
        if whole and sound.steps(canvas.scale(modality)) < canvas.target(modality).frames:
            _too_short(path, f"lasts {sound.sound.duration:.3f} s, but {float(request.seconds):.3f} s are generated")
        return sound
    info = look(path)
    if whole and (info.frames or 0) < request.size.frames:
        _too_short(path, f"has {_frames(info)}, but {request.size.frames} are generated")
    return clip_cut(info, request.size, canvas.scale(modality), from_end=from_end)


def reference_of(canvas: Canvas, condition: AskedCondition, path: Path, where: str) -> Cut:
    """Choose the part of a role's file that corresponds to the target. The factors that the sample declares make a clip
    smaller than the target, with fewer frames.

    Raises:
        ConfigError: the factors leave no whole latent cells.
        DataError: the file cannot be read, or is too short for its factor.

    Source: docs/explanation/arithmetic.md#spatial-factor-of-a-reference, #every-n-th-frame
    """
    if condition.modality == "audio":
        return part_of(canvas, path, "audio")
    space, time, size = condition.downscale_factor, condition.temporal_scale_factor, canvas.request.size
    _, rows, columns = scale = canvas.scale("video")
    wrong = [
        f"{name} {length}, and {length} divided by downscale_factor {space} is not a multiple of {step}"
        for name, length, step in (("width", size.width, columns), ("height", size.height, rows))
        if length % (space * step)
    ]
    if wrong:
        what, remedy = f"the generated clip has {' and '.join(wrong)}", "Use another factor, or other video_dims."
        raise ConfigError(what, where=f"{where}.downscale_factor", remedy=remedy)
    info = look(path)
    if time > 1 and not info.is_image:
        _check_subsampled(info, size.frames, time, scale[0] * time, where)
    smaller = Bucket(size.width // space, size.height // space, size.frames)
    return clip_cut(info, smaller, scale, factor=time)


@attrs.frozen
class PicturesCut:
    """Files from each of which a sample uses one frame, and the frames of the generated clip that they show."""

    cuts: tuple[ClipCut, ...]
    frames: tuple[int, ...]


def pictures_cut(canvas: Canvas, files: PictureFiles) -> PicturesCut:
    """Choose the frames of the generated clip that pictures show; a time is rounded to the nearest frame.

    Raises:
        ConfigError: a picture lies outside the clip, or two lie at the same frame.
        DataError: a file cannot be read, or has no video.

    Source: docs/explanation/arithmetic.md#positions-of-keyframes
    """
    size = canvas.request.size
    found = [frame + size.frames if frame < 0 else frame for frame in files.frames or ()]
    found += [round(Fraction(time) * canvas.exact_rate) for time in files.times or ()]
    key, said = ("frames", files.frames) if files.frames is not None else ("times", files.times)
    for number, frame in zip(said or (), found, strict=True):
        if not 0 <= frame < size.frames:
            what = (
                f"{number:g} in {key} is outside the generated clip, which has {size.frames} frames at {canvas.request.rate:g} per second"
            )
            last = f"{size.frames - 1}" if files.frames is not None else f"{float((size.frames - 1) / canvas.exact_rate):.3f}"
            raise ConfigError(what, remedy=f"Write numbers from 0 to {last}, or generate more frames with video_dims.")
    if len(set(found)) < len(found):
        twice = next(frame for frame in found if found.count(frame) > 1)
        raise ConfigError(f"two images show frame {twice} of the generated clip", remedy=f"Give each image a place of its own in {key}.")
    still = Bucket(size.width, size.height, 1)
    cuts = (clip_cut(look(path), still, canvas.scale("video")) for path in files.paths)
    return PicturesCut(tuple(attrs.evolve(cut, crf=canvas.request.image_crf) for cut in cuts), tuple(found))


def latent_frames(condition: AskedCondition, target: Grid, medium: Grid | None, rate: Fraction, where: str) -> int | None:
    """Return the number of latent frames that a condition gives: the number that the sample sets or, if it sets none,
    the length of the medium or of the target, whichever is shorter; None if there is neither a number nor a medium.

    Latent frame 0 covers one pixel frame, and every other latent frame covers T. A condition at the start therefore has
    `T * k + 1` pixel frames, and a condition at the end has `T * k`.

    Args:
        condition: the sample's condition.
        target: the latent grid of the sample.
        medium: the latent grid of the condition's medium, cut to the target.
        rate: the frames per second of the video.
        where: the condition's key.

    Raises:
        ConfigError: the pixel frames do not make whole latent frames, or the duration is shorter than one latent frame.
    """
    at_end = content_of(condition.cls) == "end"
    if condition.num_frames is not None:
        return _of_frames(condition.num_frames, target.scale[0], at_end, f"{where}.num_frames")
    if condition.duration is not None:
        return _of_duration(condition, target, rate, at_end, f"{where}.duration")
    return None if medium is None else min(medium.frames, target.frames)


def other_rate(cut: Cut, rate: float, tolerance: float = 0.01) -> str:
    """Return a warning if a clip will be played at a rate that differs from its own by more than the share `tolerance`;
    otherwise "".
    """
    if not isinstance(cut, ClipCut) or cut.rate is None or cut.size.frames == 1 or abs(float(cut.rate) / rate - 1) <= tolerance:
        return ""
    own = float(cut.rate)
    times, how = max(own / rate, rate / own), "slower" if own > rate else "faster"
    return f"{cut.path} has {own:g} frames per second and is used frame by frame at {rate:g}: it plays {times:.2f} times {how}"


def _check_subsampled(info: MediaInfo, target: int, factor: int, step: int, where: str) -> None:
    """Check that the used frames of a reference (every `factor`-th frame, up to the end of the target) make whole latent frames."""
    every = {2: "2nd", 3: "3rd"}.get(factor, f"{factor}th")
    if (target - 1) % step:
        below = (target - 1) // step * step + 1
        near = f"{below} or {below + step}" if below > 1 else f"{below + step}"
        raise ConfigError(
            f"taking every {every} of {target} generated frames does not give whole latent frames",
            where=f"{where}.temporal_scale_factor",
            remedy=f"Generate {near} frames, or use another factor.",
        )
    if (info.frames or 0) < target:
        raise DataError(
            f"has {_frames(info)}, but {target} are generated, and every {every} frame is taken",
            where=str(info.path),
            remedy="Name a longer file: a reference with fewer frames per second must be as long as the generated clip.",
        )


def _frames(info: MediaInfo) -> str:
    return f"{info.frames} frame{'' if info.frames == 1 else 's'}"


def _too_short(path: Path, what: str) -> NoReturn:
    raise DataError(what, where=str(path), remedy="Name a longer file, or generate fewer frames with video_dims.")


def _of_frames(frames: int, scale: int, at_end: bool, where: str) -> int:
    """Convert the pixel frames of a condition at the start or end to latent frames.

    Source: docs/explanation/arithmetic.md#length-of-a-prefix-or-suffix
    """
    lead = 0 if at_end else 1
    if (frames - lead) % scale or frames < 1:
        below, form = (frames - lead) // scale * scale + lead, f"a multiple of {scale}" + (" plus 1" if lead else "")
        near = f"{below} or {below + scale}" if below > 0 else f"{below + scale}"
        what = f"{frames} pixel frames at the {'end' if at_end else 'start'} are not a whole number of latent frames"
        raise ConfigError(what, where=where, remedy=f"Use {near}: {form}.")
    return (frames - lead) // scale + lead


def _of_duration(condition: AskedCondition, target: Grid, rate: Fraction, at_end: bool, where: str) -> int:
    seconds = Fraction(condition.duration or 0.0).limit_denominator(10**6)
    if condition.modality == "audio":
        return steps_of(samples_in(seconds), target.scale)
    frames, scale = math.floor(seconds * rate), target.scale[0]
    found = frames // scale if at_end else (frames - 1) // scale + 1
    if found < 1:
        least = math.ceil(1000 * (scale if at_end else 1) / rate) / 1000
        raise ConfigError(
            f"{float(seconds):g} seconds is shorter than one latent frame",
            where=where,
            remedy=f"Use at least {least:.3f} seconds.",
        )
    return found
