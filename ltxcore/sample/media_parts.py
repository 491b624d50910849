"""Which part of a media file goes with what is drawn; files that are too short for it are refused."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from ltxcore.config.validation_samples import SampleCondition
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import ConfigError, DataError
from ltxcore.media.probe import MediaInfo
from ltxcore.sample.cuts import ClipCut, Cut, clip_cut, look, sound_cut
from ltxcore.sample.empty_tokens import Canvas


def part_of(canvas: Canvas, path: Path, modality: str, *, whole: bool = False, from_end: bool = False) -> Cut:
    """What of a file goes with the target.

    Args:
        canvas: what is drawn.
        path: the file.
        modality: that is taken of it.
        whole: whether it must be as long as what is drawn.
        from_end: whether its end is used where it is longer, not its beginning.

    Raises:
        DataError: it cannot be read, or is too short.
    """
    request = canvas.request
    if modality == "audio":
        sound = sound_cut(path, request.seconds, from_end=from_end)
        if whole and sound.steps(canvas.scale(modality)) < canvas.target(modality).frames:
            _too_short(path, f"lasts {sound.sound.duration:.3f} s, and {float(request.seconds):.3f} s are drawn")
        return sound
    info = look(path)
    if whole and (info.frames or 0) < request.size.frames:
        _too_short(path, f"has {_frames(info)}, and {request.size.frames} are drawn")
    return clip_cut(info, request.size, canvas.scale(modality), from_end=from_end)


def reference_of(canvas: Canvas, condition: SampleCondition, path: Path, where: str) -> Cut:
    """What of a role's file goes with the target: a clip is smaller, and has fewer frames, by the factors that the sample declares.

    Raises:
        ConfigError: factors that leave no whole latent cells.
        DataError: it cannot be read, or is too short for its factor.

    Source: reference-behaviour D.3, "reference video"; design section 4, "Positions".
    """
    if condition.modality == "audio":
        return part_of(canvas, path, "audio")
    space, time, size = condition.downscale_factor, condition.temporal_scale_factor, canvas.request.size
    _, rows, columns = scale = canvas.scale("video")
    wrong = [
        f"{name} {length}, which downscale_factor {space} does not make a multiple of {step}"
        for name, length, step in (("width", size.width, columns), ("height", size.height, rows))
        if length % (space * step)
    ]
    if wrong:
        what, remedy = f"what is drawn has {' and '.join(wrong)}", "Take another factor, or other video_dims."
        raise ConfigError(what, where=f"{where}.downscale_factor", remedy=remedy)
    info = look(path)
    if time > 1 and not info.is_image:
        _check_subsampled(info, size.frames, time, scale[0] * time, where)
    smaller = Bucket(size.width // space, size.height // space, size.frames)
    return clip_cut(info, smaller, scale, factor=time)


def other_rate(cut: Cut, rate: float, tolerance: float = 0.01) -> str:
    """What to tell the user of a clip that is played at another rate than its own, by more than a share of `tolerance`; "" if it is not."""
    if not isinstance(cut, ClipCut) or cut.rate is None or cut.size.frames == 1 or abs(float(cut.rate) / rate - 1) <= tolerance:
        return ""
    own = float(cut.rate)
    times, how = max(own / rate, rate / own), "slower" if own > rate else "faster"
    return f"{cut.path} has {own:g} frames per second and is used frame by frame at {rate:g}: it plays {times:.2f} times {how}"


def _check_subsampled(info: MediaInfo, target: int, factor: int, step: int, where: str) -> None:
    """Every `factor`-th frame of a reference must lie where the target's latent frames do, to the target's end."""
    every = {2: "2nd", 3: "3rd"}.get(factor, f"{factor}th")
    if (target - 1) % step:
        below = (target - 1) // step * step + 1
        near = f"{below} or {below + step}" if below > 1 else f"{below + step}"
        raise ConfigError(
            f"what is drawn has {target} frames, of which every {every} makes no whole latent frames",
            where=f"{where}.temporal_scale_factor",
            remedy=f"Draw {near} frames, or take another factor.",
        )
    if (info.frames or 0) < target:
        raise DataError(
            f"has {_frames(info)}, and {target} are drawn, of which every {every} is taken",
            where=str(info.path),
            remedy="Name a longer one: a reference with fewer frames a second is as long as what is drawn.",
        )


def _frames(info: MediaInfo) -> str:
    return f"{info.frames} frame{'' if info.frames == 1 else 's'}"


def _too_short(path: Path, what: str) -> NoReturn:
    raise DataError(what, where=str(path), remedy="Name a longer one, or draw fewer frames with video_dims.")
