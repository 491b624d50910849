"""How many latent frames a condition gives: written as such, as pixel frames, as seconds, or as long as its medium is."""

from __future__ import annotations

import math
from fractions import Fraction

from ltxcore.config.validation_samples import SampleCondition
from ltxcore.errors import ConfigError
from ltxcore.registry import content_of
from ltxcore.sample.cuts import samples_in, steps_of
from ltxcore.state import Grid


def latent_frames(condition: SampleCondition, target: Grid, medium: Grid | None, rate: Fraction, where: str) -> int | None:
    """Latent frames that a condition gives; None where its class does not count them, or the sample says how many itself.

    Latent frame 0 is one pixel frame and every other one T of them, so that a beginning has `T * k + 1` pixel frames and an end `T * k`.

    Args:
        condition: of the sample.
        target: cells of what is drawn.
        medium: cells of its medium, cut to the target.
        rate: frames per second of the picture.
        where: its key.

    Raises:
        ConfigError: pixel frames that are no whole latent frames, or a duration that is shorter than one.
    """
    at_end = content_of(condition.cls) == "end"
    if condition.num_frames is not None:
        return _of_frames(condition.num_frames, target.scale[0], at_end, f"{where}.num_frames")
    if condition.duration is not None:
        return _of_duration(condition, target, rate, at_end, f"{where}.duration")
    return None if medium is None else min(medium.frames, target.frames)


def _of_frames(frames: int, scale: int, at_end: bool, where: str) -> int:
    """Source: reference-behaviour D.1, "Geometry"."""
    lead = 0 if at_end else 1
    if (frames - lead) % scale or frames < 1:
        below, form = (frames - lead) // scale * scale + lead, f"a multiple of {scale}" + (" plus 1" if lead else "")
        near = f"{below} or {below + scale}" if below > 0 else f"{below + scale}"
        what = f"{frames} pixel frames at the {'end' if at_end else 'start'} are no whole latent frames"
        raise ConfigError(what, where=where, remedy=f"Take {near}: {form}.")
    return (frames - lead) // scale + lead


def _of_duration(condition: SampleCondition, target: Grid, rate: Fraction, at_end: bool, where: str) -> int:
    seconds = Fraction(condition.duration or 0.0).limit_denominator(10**6)
    if condition.modality == "audio":
        return steps_of(samples_in(seconds), target.scale)
    frames, scale = math.floor(seconds * rate), target.scale[0]
    found = frames // scale if at_end else (frames - 1) // scale + 1
    if found < 1:
        least = math.ceil(1000 * (scale if at_end else 1) / rate) / 1000
        raise ConfigError(
            f"{float(seconds):g} seconds are shorter than one latent frame",
            where=where,
            remedy=f"Take at least {least:.3f} seconds.",
        )
    return found
